"""`budget report`: usage over time, in every format that the service has; and `budget report schedule`."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from budget_bus.cli.gateway import ask, stream
from budget_bus.cli.output import OutputOption, written
from budget_bus.cli.render import Format, show
from budget_bus.cli.report_schedules import schedule
from budget_bus.cli.usage import UsagePeriod

report = typer.Typer(help="Report usage over time, or have it reported again and again.", invoke_without_command=True)
report.add_typer(schedule, name="schedule")

_NUMBERS = {
    "Requests": "requests",
    "Total tokens": "total_tokens",
    "Cost": "cost",
    "Per request": "cost_per_request",
    "Per 1K tokens": "cost_per_1k_tokens",
    "Cache savings": "cache_savings",
    "Late": "late_cost",
    "Restated": "restated_cost",
    "Unpriced requests": "unpriced_requests",
}
_OF_GROUPS = {"Contexts": "contexts", "Per context": "cost_per_context"}


class ReportFormat(StrEnum):
    """How a report is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    HTML = "html"
    XLSX = "xlsx"


_MEDIA_TYPES = {
    ReportFormat.JSON: "application/json",
    ReportFormat.CSV: "text/csv",
    ReportFormat.HTML: "text/html",
    ReportFormat.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


@report.callback()
def make_report(
    context: typer.Context,
    *,
    days: Annotated[int | None, typer.Option(help="The last so many days; 30.", min=1, max=1100)] = None,
    start: Annotated[str | None, typer.Option(help="From this instant on, e.g. 2026-11-01T00:00:00Z.")] = None,
    end: Annotated[str | None, typer.Option(help="Before this instant; now.")] = None,
    period: Annotated[UsagePeriod, typer.Option(help="How long the steps of time are.")] = UsagePeriod.DAILY,
    group_by: Annotated[
        list[str] | None,
        typer.Option(help="component, provider, model, tier, task_type, user or context_id; repeat it or use commas."),
    ] = None,
    component: Annotated[list[str] | None, typer.Option(help="Only this component; repeat it.")] = None,
    provider: Annotated[list[str] | None, typer.Option(help="Only this provider; repeat it.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; repeat it.")] = None,
    tier: Annotated[list[str] | None, typer.Option(help="Only this tier; repeat it.")] = None,
    task_type: Annotated[list[str] | None, typer.Option(help="Only this task type; repeat it.")] = None,
    user: Annotated[list[str] | None, typer.Option(help="Only this user; repeat it.")] = None,
    context_id: Annotated[list[str] | None, typer.Option(help="Only this context; repeat it.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Where days begin, e.g. Europe/Berlin.")] = None,
    form: Annotated[
        ReportFormat, typer.Option("--format", help="html is one page with charts, xlsx a workbook.")
    ] = ReportFormat.TABLE,
    output: OutputOption = None,
) -> None:
    """
    Report usage over time: totals, unit costs, cache savings and adjustments, in steps of time or in groups.

    Example: budget report --days 30 --group-by component,model --format html --output november.html
    """
    if context.invoked_subcommand is not None:
        return
    dimensions = [name.strip() for given in group_by or [] for name in given.split(",") if name.strip()]
    query = {
        "days": days, "start": start, "end": end, "period": period.value, "group_by": ",".join(dimensions),
        "component": component, "provider": provider, "model": model, "tier": tier, "task_type": task_type,
        "user": user, "context_id": context_id, "timezone": timezone,
    }  # fmt: skip
    if form is ReportFormat.TABLE:
        if output is not None:
            raise typer.BadParameter("a file is json, csv, html or xlsx", param_hint="--format")
        _print(query, dimensions)
        return
    if form is ReportFormat.XLSX and output is None and sys.stdout.isatty():
        raise typer.BadParameter("a workbook is not for a terminal; name a file", param_hint="--output")
    with (
        written(output) as file,
        stream("/api/reports/summary", {**query, "format": form.value}, media_type=_MEDIA_TYPES[form]) as chunks,
    ):
        for chunk in chunks:
            file.write(chunk)


def _print(query: dict[str, Any], dimensions: list[str]) -> None:
    _, answer = ask("GET", "/api/reports/summary", query=query)
    print(f"{answer['window_start']} to {answer['window_end']}, costs in {answer['currency']}")
    total = {**answer["totals"], "start": "TOTAL", **({dimensions[0]: "TOTAL"} if dimensions else {})}
    if dimensions:
        rows = [{**group, **group["key"]} for group in answer["groups"]]
        columns = {**{name: name for name in dimensions}, **_NUMBERS, **_OF_GROUPS}
    else:
        rows = answer["series"]
        columns = {"From": "start", **_NUMBERS}
    show([*rows, total], columns, Format.TABLE)
    if answer["unconfirmed_holds"]:
        print(
            f"unconfirmed: {answer['unconfirmed']} for {answer['unconfirmed_holds']} calls of which nothing was heard"
        )
