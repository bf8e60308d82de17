"""`budget debug integrations`: which components use the service, and what looks wrong with how they do."""

from __future__ import annotations

from typing import Annotated

import typer

from budget_bus.cli.gateway import ask
from budget_bus.cli.render import Format, FormatOption, printable, show

debug = typer.Typer(help="Find out why numbers are not what they should be.", no_args_is_help=True)

_COLUMNS = {
    "Component": "component",
    "Calls": "requests",
    "Last call": "last_occurred_at",
    "Last recorded": "last_recorded_at",
    "Unpriced": "unpriced_requests",
    "Checks": "checks",
    "Denied": "denied",
    "Last check": "last_check_at",
    "Holds": "holds",
}


@debug.callback()
def _group() -> None:
    """Find out why numbers are not what they should be."""


@debug.command("integrations")
def integrations(
    *,
    days: Annotated[int, typer.Option(help="How many days until now to look at.", min=1, max=366)] = 7,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Show who published what and when, who never settles, and who uses models without a price.

    Example: budget debug integrations --days 1
    """
    _, page = ask("GET", "/api/integrations", query={"days": days})
    found = page["items"]
    nobody = f"no component has recorded or asked in {days} days; `budget dlq list` shows what could not be used"
    show(found, _COLUMNS, form, empty=nobody)
    if form is Format.TABLE:
        for one in found:
            for finding in one["findings"]:
                print(printable(f"\n{one['component']}: {finding}"), end="")
        print(end="\n" if any(one["findings"] for one in found) else "")
