"""`budget forecast`: what budgets will come to, and when they run out."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from budget_bus.cli.gateway import ask
from budget_bus.cli.limit_words import budget_id_of
from budget_bus.cli.render import Format, FormatOption, show

_COLUMNS = {
    "Budget": "name",
    "Period": "period",
    "Spent": "spent",
    "Limit": "limit",
    "Unit": "unit",
    "Until": "window_end",
    "Expected": "expected",
    "Low": "low",
    "High": "high",
    "Method": "method",
    "Error %": "backtest_error_percent",
    "Run rate error %": "run_rate_error_percent",
    "Runs out": "runs_out_at",
    "Earliest": "earliest",
    "Latest": "latest",
    "Reason": "reason",
}


def show_forecasts(
    *,
    budget: Annotated[list[str] | None, typer.Option(help="Only this budget, by id or name; may be repeated.")] = None,
    component: Annotated[list[str] | None, typer.Option(help="Only budgets that concern it; may be repeated.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Show what budgets will come to by their windows' ends, and when they run out.

    Nine of ten back-tests ended between low and high, and ran out between earliest and latest.

    Example: budget forecast --budget daily --format json
    """
    query = {"budget_id": [budget_id_of(one) for one in budget or ()], "component": component}
    _, answer = ask("GET", "/api/forecasts", query=query)
    items = answer["items"]
    rows = items if form is Format.JSON else [_row(item) for item in items]
    show(rows, _COLUMNS, form, empty="no such budgets")


def _row(item: dict[str, Any]) -> dict[str, Any]:
    unit = item["currency"] if item["unit"] == "cost" else item["unit"]
    return {**item, **(item["forecast"] or {}), **(item["runs_out_between"] or {}), "unit": unit}
