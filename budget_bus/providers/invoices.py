"""
A provider's own export of costs -> lines per UTC day and item.

Read are the answers of OpenAI's `/v1/organization/costs` and Anthropic's `/v1/organizations/cost_report`, a page or a
list of all pages, OpenAI's CSV (or TSV) of the same columns, and the cost CSV of Anthropic's console.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from budget_bus.errors import FieldError, Rejected
from budget_bus.money import MAX_NANOS, check_currency

_UNNAMED: Final = "not itemised"
_NO_TEXT: Final = re.compile("[\0\ud800-\udfff]")
_OPENAI_CSV: Final = ("start_time", "end_time", "amount_value", "amount_currency", "line_item")
_ANTHROPIC_CSV: Final = ("usage_date_utc", "model", "token_type", "cost_usd")
_HINT: Final = (
    "give the JSON of OpenAI's /v1/organization/costs or Anthropic's /v1/organizations/cost_report, "
    "or the CSV of costs of either"
)


class Line(NamedTuple):
    """What was charged for one item on one UTC day; *model* None: the item names none."""

    day: date
    item: str
    model: str | None
    currency: str
    cost_nanos: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """All lines of one export, summed per item and day, and the UTC days that it is about."""

    provider: str
    days: tuple[date, ...]
    lines: tuple[Line, ...]


class _Charge(NamedTuple):
    start: datetime
    item: str
    model: str | None
    amount: Decimal
    currency: str


def read_invoice(raw: bytes) -> Invoice:
    """
    Read one export. Amounts are taken as decimals, summed, and rounded once per line to nanos, half to even.

    Raises:
        Rejected: names the place and what is wrong there; nothing of the export is taken.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _wrong("export", "is not UTF-8 text") from None
    if text.lstrip()[:1] in ("{", "["):
        return _from_json(text)
    return _from_csv(text)


def _from_json(text: str) -> Invoice:
    try:
        said = json.loads(
            text, parse_float=Decimal, parse_constant=lambda name: Decimal(name.replace("Infinity", "inf"))
        )
    except (ValueError, RecursionError) as bad:
        raise _wrong("export", f"is not whole JSON ({bad})") from None
    pages = said if isinstance(said, list) else [said]
    if not pages or not all(isinstance(page, Mapping) and isinstance(page.get("data"), list) for page in pages):
        raise _wrong("export", f"has no list `data`; {_HINT}")
    if pages[-1].get("has_more"):
        raise _wrong("has_more", "the last page is not the last one; fetch all pages and give them as a list")
    buckets = [
        (f"{page_number}.data.{number}" if len(pages) > 1 else f"data.{number}", bucket)
        for page_number, page in enumerate(pages)
        for number, bucket in enumerate(page["data"])
    ]
    if any(isinstance(bucket, Mapping) and "starting_at" in bucket for _, bucket in buckets):
        return _invoice("anthropic", *_split(_buckets(buckets, _anthropic)))
    return _invoice("openai", *_split(_buckets(buckets, _openai)))


def _buckets(buckets: Iterable[tuple[str, Any]], read: Any) -> Iterator[tuple[date, list[_Charge]]]:
    for where, bucket in buckets:
        if not isinstance(bucket, Mapping) or not isinstance(bucket.get("results"), list):
            raise _wrong(where, f"has no list `results`; {_HINT}")
        start, end = read(where, bucket, None)
        charges = []
        for number, result in enumerate(bucket["results"]):
            place = f"{where}.results.{number}"
            if not isinstance(result, Mapping):
                raise _wrong(place, "must be an object")
            item, model, amount, currency = read(place, bucket, result)
            charges.append(_Charge(start, item, model, amount, currency))
        yield _day(where, start, end), charges


def _openai(where: str, bucket: Mapping[str, Any], result: Mapping[str, Any] | None) -> Any:
    if result is None:
        return tuple(_unix(where, name, bucket.get(name)) for name in ("start_time", "end_time"))
    amount = result.get("amount")
    if not isinstance(amount, Mapping):
        raise _wrong(f"{where}.amount", "must be an object of value and currency")
    item = _text(f"{where}.line_item", result.get("line_item"))
    value = _decimal(f"{where}.amount.value", amount.get("value"))
    return item or _UNNAMED, _openai_model(item), value, _currency(f"{where}.amount.currency", amount.get("currency"))


def _openai_model(item: str) -> str | None:
    """Of an item such as `gpt-4o-2024-08-06, input` the model; groups of models have spaces in their names."""
    name = item.split(",", maxsplit=1)[0].strip()
    return name if name and " " not in name else None


def _anthropic(where: str, bucket: Mapping[str, Any], result: Mapping[str, Any] | None) -> Any:
    if result is None:
        return tuple(_iso(where, name, bucket.get(name)) for name in ("starting_at", "ending_at"))
    cents = _decimal(f"{where}.amount", result.get("amount"))
    said = [_text(f"{where}.{name}", result.get(name)) for name in ("description", "model", "cost_type", "token_type")]
    description, model, cost_type, token_type = said
    item = description or ", ".join(filter(None, (model, cost_type, token_type))) or _UNNAMED
    return item, model or None, cents / 100, _currency(f"{where}.currency", result.get("currency"))


def _from_csv(text: str) -> Invoice:
    try:
        header, *rows = [(number, row) for number, row in enumerate(_csv_rows(text), start=1) if row] or [(1, [])]
    except csv.Error as bad:
        raise _wrong("export", f"is no CSV ({bad})") from None
    names = [name.strip() for name in header[1]]
    provider, needed, read = (
        ("anthropic", _ANTHROPIC_CSV, _anthropic_row)
        if "usage_date_utc" in names
        else ("openai", _OPENAI_CSV, _openai_row)
    )
    if missing := [name for name in needed if name not in names]:
        there = ", ".join(names)[:200] or "none"
        raise _wrong("export", f"lacks the columns {', '.join(missing)}; it has {there}; {_HINT}")
    if len(set(names)) < len(names):
        raise _wrong("export", "has two columns of the same name")
    found = []
    for number, row in rows:
        if len(row) != len(names):
            raise _wrong(f"line {number}", f"has {len(row)} fields, not the {len(names)} of the first line")
        values = {name: value.strip() for name, value in zip(names, row, strict=True)}
        found.append(read(f"line {number}", values))
    return _invoice(provider, *_split(found))


def _csv_rows(text: str) -> Iterator[list[str]]:
    first = text.split("\n", 1)[0]
    return csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in first else ",", strict=True)


def _openai_row(where: str, row: Mapping[str, str]) -> tuple[date, list[_Charge]]:
    start, end = (_unix(where, name, row[name]) for name in ("start_time", "end_time"))
    day = _day(where, start, end)
    if not row["amount_value"]:  # a day without costs
        return day, []
    item = _text(f"{where}.line_item", row["line_item"])
    amount = _decimal(f"{where}.amount_value", row["amount_value"])
    currency = _currency(f"{where}.amount_currency", row["amount_currency"])
    return day, [_Charge(start, item or _UNNAMED, _openai_model(item), amount, currency)]


def _anthropic_row(where: str, row: Mapping[str, str]) -> tuple[date, list[_Charge]]:
    start = _iso(where, "usage_date_utc", row["usage_date_utc"])
    if start.year > 9000:
        raise _wrong(f"{where}.usage_date_utc", "is too far in the future")
    end = start + timedelta(days=1)
    said = [_text(f"{where}.{name}", row.get(name)) for name in ("model", "cost_type", "token_type")]
    item = ", ".join(filter(None, said)) or _UNNAMED
    amount = _decimal(f"{where}.cost_usd", row["cost_usd"])
    return _day(where, start, end), [_Charge(start, item, _shown_model(said[0]), amount, "USD")]


def _shown_model(name: str) -> str | None:
    """The console shows `Claude Haiku 4.5` where the API says `claude-haiku-4-5`."""
    return name.lower().replace(" ", "-").replace(".", "-") or None


def _split(found: Iterable[tuple[date, list[_Charge]]]) -> tuple[list[date], list[_Charge]]:
    days, charges = [], []
    for day, more in found:
        days.append(day)
        charges += more
    return days, charges


def _invoice(provider: str, days: Iterable[date], charges: Iterable[_Charge]) -> Invoice:
    sums: dict[tuple[date, str, str | None, str], Decimal] = {}
    for charge in charges:
        key = (charge.start.date(), charge.item, charge.model, charge.currency)
        sums[key] = sums.get(key, Decimal(0)) + charge.amount
    lines = [
        Line(*key, int((amount * 10**9).to_integral_value(ROUND_HALF_EVEN))) for key, amount in sorted(
            sums.items(), key=lambda pair: (pair[0][0], pair[0][1], pair[0][3])
        )
    ]  # fmt: skip
    if sum(abs(line.cost_nanos) for line in lines) > MAX_NANOS:
        raise _wrong("export", "comes to more than 9 billion; export fewer days at a time")
    return Invoice(provider, tuple(sorted(set(days))), tuple(lines))


def _day(where: str, start: datetime, end: datetime) -> date:
    midnight = datetime(start.year, start.month, start.day, tzinfo=UTC)
    if start != midnight or end - start != timedelta(days=1):
        raise _wrong(where, "is not one UTC day; ask for buckets of a day (bucket_width=1d)")
    return start.date()


def _unix(where: str, name: str, value: Any) -> datetime:
    try:
        return datetime.fromtimestamp(int(value), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise _wrong(f"{where}.{name}", f"must be seconds since 1970, not {str(value)[:40]!r}") from None


def _iso(where: str, name: str, value: Any) -> datetime:
    try:
        said = datetime.fromisoformat(value)
        return said.replace(tzinfo=UTC) if said.tzinfo is None else said.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise _wrong(
            f"{where}.{name}", f"must be a time such as 2026-01-31T00:00:00Z, not {str(value)[:40]!r}"
        ) from None


def _decimal(where: str, value: Any) -> Decimal:
    try:
        amount = Decimal(str(value)) if not isinstance(value, bool) else Decimal("nan")
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite() or abs(amount) > 10**10:
        raise _wrong(where, f"must be an amount, not {str(value)[:40]!r}")
    return amount


def _currency(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "must be an ISO 4217 code such as USD")
    return check_currency(value.upper(), field=where)


def _text(where: str, value: Any) -> str:
    if value is None:
        return ""
    # PostgreSQL keeps neither NUL nor half a surrogate pair.
    if not isinstance(value, str) or len(value) > 500 or _NO_TEXT.search(value):
        raise _wrong(where, "must be a text of at most 500 characters, without NUL and lone surrogates")
    return value.strip()


def _wrong(field: str, message: str) -> Rejected:
    return Rejected("invalid export", [FieldError(field, message)])
