"""`budget export`: the ledger's rows to a file, with a bar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from budget_bus.cli.gateway import ask, stream
from budget_bus.cli.importing.meter import Meter
from budget_bus.cli.limit_words import instant
from budget_bus.cli.output import OutputOption, written

_DAYS = 30


class ExportFormat(StrEnum):
    """How the ledger is written."""

    CSV = "csv"
    FOCUS = "focus"


# What ends a line that counts as one event. A line break within a name counts too: the bar is a little fast then.
_EVENT = {ExportFormat.CSV: b"\n", ExportFormat.FOCUS: b",1\n"}


def export(
    *,
    start: Annotated[str | None, typer.Option(help="From this instant on; 30 days before the end.")] = None,
    end: Annotated[str | None, typer.Option(help="Before this instant; now.")] = None,
    component: Annotated[list[str] | None, typer.Option(help="Only this component; repeat it.")] = None,
    provider: Annotated[list[str] | None, typer.Option(help="Only this provider; repeat it.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model; repeat it.")] = None,
    form: Annotated[
        ExportFormat, typer.Option("--format", help="csv is a row per event, focus is FOCUS 1.2, a row per charge.")
    ] = ExportFormat.CSV,
    output: OutputOption = None,
) -> None:
    """
    Export the ledger's rows as CSV or FOCUS 1.2.

    In the order the events occurred, and all of one moment, however long it takes.

    Example: budget export --format focus --start 2026-11-01T00:00:00Z --end 2026-12-01T00:00:00Z --output november.csv
    """
    until = instant(end, "--end") if end else datetime.now(UTC).isoformat()
    since = instant(start, "--start") if start else (datetime.fromisoformat(until) - timedelta(days=_DAYS)).isoformat()
    query = {"start": since, "end": until, "component": component, "provider": provider, "model": model}
    # From the rollups; a step for each month, because only the total is wanted.
    _, summary = ask("GET", "/api/reports/summary", query={**query, "period": "monthly"})
    mark, end_of_last = _EVENT[form], b""
    with (
        written(output) as file,
        Meter("exporting", summary["totals"]["requests"]) as meter,
        stream("/api/reports/export", {**query, "format": form.value}, media_type="text/csv") as chunks,
    ):
        meter.advance(-1 if form is ExportFormat.CSV else 0)  # the heading
        for chunk in chunks:
            file.write(chunk)
            meter.advance((end_of_last + chunk).count(mark))
            # So much that a mark between two chunks is seen, and so little that none is seen twice.
            end_of_last = (end_of_last + chunk)[1 - len(mark) :] if len(mark) > 1 else b""
