"""`budget get-usage`: what was used in a period."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from budget_bus.cli.gateway import ask
from budget_bus.cli.render import Format, FormatOption, show, show_json

_NUMBERS = {
    "Requests": "requests",
    "Input tokens": "input_tokens",
    "Output tokens": "output_tokens",
    "Total tokens": "total_tokens",
    "Cost": "cost",
    "Currency": "currency",
    "Unpriced requests": "unpriced_requests",
}


class UsagePeriod(StrEnum):
    """How long the window of a usage report is."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


def get_usage(
    period: Annotated[
        UsagePeriod, typer.Argument(metavar="[PERIOD]", help="hourly, daily, weekly or monthly.")
    ] = UsagePeriod.DAILY,
    *,
    group_by: Annotated[
        list[str] | None,
        typer.Option(help="component, provider, model, task_type, user or context_id; repeat it or use commas."),
    ] = None,
    component: Annotated[str | None, typer.Option(help="Only this component.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    task_type: Annotated[str | None, typer.Option(help="Only this task type.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user.")] = None,
    context_id: Annotated[str | None, typer.Option(help="Only this context.")] = None,
    start: Annotated[str | None, typer.Option(help="From this instant on, e.g. 2026-11-01T00:00:00Z.")] = None,
    end: Annotated[str | None, typer.Option(help="Before this instant.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Where days begin, e.g. Europe/Berlin.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Show requests, tokens and cost of a period's current window, or of any span.

    Example: budget get-usage weekly --group-by component,model --format csv
    """
    dimensions = [name.strip() for given in group_by or [] for name in given.split(",") if name.strip()]
    query = {
        "group_by": ",".join(dimensions),
        "component": component,
        "provider": provider,
        "model": model,
        "task_type": task_type,
        "user": user,
        "context_id": context_id,
        "start": start,
        "end": end,
        "timezone": timezone,
    }
    _, answer = ask("GET", f"/api/usage/{period.value}", query=query)
    if form is Format.JSON:
        show_json(answer)
        return
    if form is Format.TABLE:
        print(f"{answer['window_start']} to {answer['window_end']}")
    show(_rows(answer, dimensions, form), {**{name: name for name in dimensions}, **_NUMBERS}, form)


def _rows(answer: dict[str, Any], dimensions: list[str], form: Format) -> list[dict[str, Any]]:
    currency = {"currency": answer.get("currency")}
    groups = [{**currency, **group, **group["key"]} for group in answer.get("groups") or []] if dimensions else []
    total = {**currency, **answer["totals"]}
    if not dimensions:
        return [total]
    # A sum among the rows would be counted again by whoever sums a CSV.
    return groups if form is Format.CSV else [*groups, {**total, dimensions[0]: "TOTAL"}]
