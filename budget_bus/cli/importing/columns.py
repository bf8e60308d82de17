"""Which column is which field, and a row -> the event that it tells of."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import typer

from budget_bus.cli.importing.instants import parse_instant
from budget_bus.errors import FieldError, Rejected
from budget_bus.events.fields import MAX_FUTURE_S
from budget_bus.events.usage import UsageRecorded
from budget_bus.producers.fields import read_fields

_COUNTS = frozenset(name for name in UsageRecorded.model_fields if name.endswith("_tokens"))
_NESTED = ("tags", "reported_cost")
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
# What an event needs, and the fields that any one of can give it.
_NEEDED = (
    ("component",),
    ("provider",),
    ("model",),
    ("input_tokens", "input_text"),
    ("output_tokens", "output_text"),
    ("occurred_at",),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each field comes from: a column, or a constant that was read already."""

    columns: Mapping[str, str]
    constants: Mapping[str, Any]
    zone: ZoneInfo

    def event(self, cells: Mapping[str, Any], *, event_id: UUID, now: datetime) -> UsageRecorded:
        """
        The event of one row; its own event_id counts before the one that is given.

        Raises:
            Rejected: names each field that is wrong, its column and what is in it.
        """
        fields: dict[str, Any] = {"event_id": event_id}
        errors = []
        for name, value in self.constants.items():
            _put(fields, name, value)
        for name, column in self.columns.items():
            raw = _cell(cells, column)
            if raw is None:
                continue
            try:
                _put(fields, name, convert(name, raw, self.zone))
            except ValueError as error:
                errors.append(self._named(FieldError(name, str(error)), cells))
        if errors:
            raise Rejected("invalid row", errors)
        try:
            event = read_fields(UsageRecorded, fields)
        except Rejected as error:
            raise Rejected("invalid row", [self._named(item, cells) for item in error.errors]) from None
        if event.occurred_at and event.occurred_at > now + timedelta(seconds=MAX_FUTURE_S):
            late = FieldError("occurred_at", f"is more than {MAX_FUTURE_S} s in the future")
            raise Rejected("invalid row", [self._named(late, cells)])
        return event

    def _named(self, error: FieldError, cells: Mapping[str, Any]) -> FieldError:
        column = self.columns.get(error.field)
        if column is None:
            return error
        raw = _cell(cells, column)
        shown = "is empty" if raw is None else f"holds {_short(raw)}"
        return FieldError(error.field, f"{error.message} (column {column} {shown})")


def make_plan(maps: Sequence[str], sets: Sequence[str], available: Sequence[str], zone: ZoneInfo) -> Plan:
    """
    Read `--map` and `--set`; columns that are called like a field need neither.

    Raises:
        typer.BadParameter: a field or column there is not, one given twice, or one that nothing gives.
    """
    columns = {field: _known_column(column, available) for field, column in _pairs(maps, "--map").items()}
    texts = _pairs(sets, "--set")
    both = sorted(columns.keys() & texts.keys())
    if both:
        raise typer.BadParameter(f"{both[0]} is given by --map and by --set; leave one out")
    constants = {}
    for field, text in texts.items():
        try:
            constants[field] = convert(field, text, zone)
        except ValueError as error:
            raise typer.BadParameter(f"{field}: {error}", param_hint="--set") from None
    for column in available:
        if _is_field(column) and column not in columns and column not in constants:
            columns[column] = column
    for alternatives in _NEEDED:
        if not any(name in columns or name in constants for name in alternatives):
            raise typer.BadParameter(_missing(alternatives[0], available))
    return Plan(columns, constants, zone)


def convert(field: str, raw: Any, zone: ZoneInfo) -> Any:
    """
    A cell's value as its field wants it; what is no text already is mostly left for the event's model to judge.

    Raises:
        ValueError: it cannot be one.
    """
    text = raw.strip() if isinstance(raw, str) else raw
    if field == "occurred_at":
        return parse_instant(text, zone)
    if field in _COUNTS and isinstance(text, (str, Decimal)):
        if not _WHOLE.fullmatch(str(text)):
            raise ValueError("is not a whole number")
        return int(str(text).split(".")[0])
    if field == "estimated" and isinstance(text, str):
        if text.lower() not in _TRUTH:
            raise ValueError("is neither true nor false")
        return _TRUTH[text.lower()]
    if field in _NESTED and isinstance(text, str):
        try:
            return json.loads(text, parse_float=Decimal)
        except ValueError:
            raise ValueError(f"is not a JSON object; or use {field}.NAME") from None
    return text


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        field, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not value:
            form = "field=COLUMN" if option == "--map" else "field=value"
            raise typer.BadParameter(f"{text!r} is not {form}", param_hint=option)
        if not _is_field(field):
            near = _near(field, list(UsageRecorded.model_fields))
            known = ", ".join(UsageRecorded.model_fields)
            raise typer.BadParameter(f"{field!r} is no field of an event{near} There are: {known}", param_hint=option)
        if field in found:
            raise typer.BadParameter(f"{field} is given twice", param_hint=option)
        found[field] = value
    return found


def _is_field(name: str) -> bool:
    first, _, rest = name.partition(".")
    return name in UsageRecorded.model_fields or (first in _NESTED and bool(rest))


def _known_column(column: str, available: Sequence[str]) -> str:
    if column in available:
        return column
    listed = ", ".join(available) or "none"
    raise typer.BadParameter(
        f"there is no column {column!r}{_near(column, available)} There are: {listed}", param_hint="--map"
    )


def _missing(field: str, available: Sequence[str]) -> str:
    example = {"occurred_at": "2026-11-23T18:00:00Z", "input_tokens": "1000", "output_tokens": "100"}.get(field, "NAME")
    return (
        f"nothing gives {field}{_near(field, available)} Add --map {field}=COLUMN or --set {field}={example}. "
        f"The columns are: {', '.join(available) or 'none'}"
    )


def _near(name: str, known: Sequence[str]) -> str:
    squashed = {_squash(other): other for other in known}
    found = difflib.get_close_matches(_squash(name), list(squashed), n=1, cutoff=0.6)
    return f"; did you mean {squashed[found[0]]}?" if found else "."


def _squash(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _cell(cells: Mapping[str, Any], column: str) -> Any:
    """What a row has in *column*, or deeper where it has dots; None for nothing."""
    value: Any = cells.get(column)
    if value is None and "." in column:
        value = cells
        for part in column.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    return None if isinstance(value, str) and not value.strip() else value


def _put(fields: dict[str, Any], name: str, value: Any) -> None:
    first, _, rest = name.partition(".")
    if rest:
        inner = fields.setdefault(first, {})
        fields[first] = {**(inner if isinstance(inner, dict) else {}), rest: value}
    else:
        fields[name] = value


def _short(value: Any) -> str:
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
