"""A report as an Excel workbook: numbers as numbers, names as texts, never as formulas or links."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import xlsxwriter
from xlsxwriter.worksheet import Worksheet

from budget_bus.insight.report_formats.cells import COLUMNS, CONTEXT_COLUMNS

_MOST_CHARACTERS: Final = 32_767  # of a cell: Excel's own limit
# Excel reads a decimal string as a text, and a number has 15 digits there.
_MONEY: Final = ("cost", "cache_savings", "late_cost", "restated_cost", "cost_per_request", "cost_per_1k_tokens",
                 "cost_per_context", "share_percent", "limit", "spent", "held", "unconfirmed", "available", "expected",
                 "low", "high")  # fmt: skip
_BUDGET: Final = ("name", "period", "unit", "currency", "policy", "limit", "spent", "held", "unconfirmed", "available",
                  "window_start", "window_end", "expected", "low", "high", "runs_out_at")  # fmt: skip
_TOP: Final = ("dimension", "value", "cost", "share_percent")


def render_xlsx(report: Mapping[str, Any], group_by: Sequence[str]) -> bytes:
    """The workbook. Rows go to disk as they are written, so that many of them need little memory."""
    out = io.BytesIO()
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(out, options) as book:
        bold = book.add_format({"bold": True})

        def sheet(name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
            page = book.add_worksheet(name)
            page.freeze_panes(1, 0)
            page.set_column(0, len(columns) - 1, 18)
            for column, heading in enumerate(columns):
                page.write_string(0, column, heading, bold)
            for number, row in enumerate(rows, start=1):
                for column, heading in enumerate(columns):
                    _write(page, number, column, heading, row.get(heading))

        sheet("Summary", ("what", "value"), _summary(report))
        if group_by:
            groups = ({**group, **_named(group["key"])} for group in report["groups"])
            sheet("Groups", [*map(_key, group_by), *COLUMNS, *CONTEXT_COLUMNS], groups)
        sheet("Series", ("start", "end", *COLUMNS), report["series"])
        sheet("Top", _TOP, report["top"])
        sheet("Budgets", _BUDGET, ({**budget, **(budget["forecast"] or {})} for budget in report["budgets"]))
    return out.getvalue()


def _summary(report: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for name in ("window_start", "window_end", "currency"):
        yield {"what": name, "value": report[name]}
    for name in (*COLUMNS, *CONTEXT_COLUMNS):
        yield {"what": name, "value": _number(name, report["totals"][name])}
    yield {"what": "unpriced_tokens", "value": report["unpriced"]["total_tokens"]}
    yield {"what": "unconfirmed", "value": _number("unconfirmed", report["unconfirmed"])}
    yield {"what": "unconfirmed_holds", "value": report["unconfirmed_holds"]}


def _key(name: str) -> str:
    # A dimension may be called as one of the numbers is.
    return f"by {name}"


def _named(key: Mapping[str, Any]) -> dict[str, Any]:
    return {_key(name): value for name, value in key.items()}


def _number(name: str, value: Any) -> Any:
    return Decimal(value) if name in _MONEY and value is not None else value


def _write(page: Worksheet, row: int, column: int, name: str, value: Any) -> None:
    value = _number(name, value)
    if isinstance(value, (int, Decimal)):
        page.write_number(row, column, value)
    elif value is not None:
        page.write_string(row, column, str(value)[:_MOST_CHARACTERS])
