"""`budget report schedule`: reports that are made again and again."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

import typer

from budget_bus.cli.gateway import ask, items
from budget_bus.cli.render import Format, FormatOption, printable, show

schedule = typer.Typer(help="List, add and remove reports that are made again and again.", no_args_is_help=True)

_COLUMNS = {
    "Schedule id": "schedule_id",
    "Name": "name",
    "Every": "every",
    "At": "at",
    "Zone": "timezone",
    "File": "file",
    "Webhook": "webhook_host",
    "Due at": "due_at",
    "Failed": "attempts",
    "Last error": "last_error",
    "Last delivered": "last_delivered_due_at",
}


class Every(StrEnum):
    """How often a report is made."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class FileFormat(StrEnum):
    """How a scheduled report is written."""

    JSON = "json"
    CSV = "csv"
    HTML = "html"
    XLSX = "xlsx"


@schedule.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called in the list.")],
    *,
    every: Annotated[Every, typer.Option(help="A report of each day, week (from Monday) or month, after its end.")],
    at: Annotated[str, typer.Option(metavar="HH:MM", help="When, by the zone's clock.")] = "06:00",
    timezone: Annotated[str | None, typer.Option(help="The zone, e.g. Europe/Berlin.")] = None,
    group_by: Annotated[list[str] | None, typer.Option(help="As of `budget report`; repeat it or use commas.")] = None,
    component: Annotated[list[str] | None, typer.Option(help="Only this component; repeat it.")] = None,
    provider: Annotated[list[str] | None, typer.Option(help="Only this provider; repeat it.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; repeat it.")] = None,
    form: Annotated[FileFormat, typer.Option("--format", help="How it is written.")] = FileFormat.HTML,
    file: Annotated[
        str | None, typer.Option(help="A name in BUDGET_REPORTS_DIR; {date} becomes the first day reported of.")
    ] = None,
    webhook: Annotated[str | None, typer.Option(metavar="URL", help="Post it there, signed.")] = None,
) -> None:
    """
    Have a report made again and again, to a file or to a webhook.

    Example: budget report schedule add spend --every weekly --group-by component --file "spend-{date}.html"
    """
    if (file is None) == (webhook is None):
        raise typer.BadParameter("name one of them", param_hint="--file / --webhook")
    body = {
        "name": name,
        "every": every.value,
        "at": at,
        "timezone": timezone,
        "format": form.value,
        "group_by": [one.strip() for given in group_by or [] for one in given.split(",") if one.strip()],
        "component": component or [],
        "provider": provider or [],
        "model": model or [],
        "file": file,
        "webhook": webhook,
    }
    _, made = ask("POST", "/api/reports/schedules", body=body)
    print(printable(f"{made['schedule_id']}: {made['name']}, first at {made['due_at']}"))


@schedule.command("list")
def list_schedules(*, form: FormatOption = Format.TABLE) -> None:
    """
    List scheduled reports, and how delivering them goes.

    Example: budget report schedule list --format csv
    """
    show(items("/api/reports/schedules"), _COLUMNS, form, empty="no report is scheduled")


@schedule.command("remove")
def remove(
    schedule_id: Annotated[list[UUID], typer.Argument(metavar="SCHEDULE_ID...", help="As `list` says.")],
) -> None:
    """
    Have no more of these reports; what was delivered stays.

    Example: budget report schedule remove 6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10
    """
    for one in schedule_id:
        ask("DELETE", f"/api/reports/schedules/{one}")
        print(f"{one}: removed")
