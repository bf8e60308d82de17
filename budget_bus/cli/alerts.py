"""`budget alerts`: what was raised, taking note of it, and waiting for more."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from uuid import UUID

import typer

from budget_bus.cli.gateway import ask
from budget_bus.cli.render import Format, FormatOption, printable, show, show_json

alerts = typer.Typer(help="List alerts, acknowledge them, or wait for new ones.", no_args_is_help=True)

_COLUMNS = {
    "Raised at": "raised_at",
    "Alert id": "alert_id",
    "Severity": "severity",
    "Type": "type",
    "Budget": "name",
    "Message": "message",
    "Acknowledged by": "acknowledged_by",
}


@alerts.command("list")
def list_alerts(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those too that were acknowledged.")] = False,
    budget: Annotated[
        list[str] | None, typer.Option(metavar="BUDGET_ID", help="Only of this budget; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Only the newest so many.", min=1, max=1000)] = 100,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    List alerts that nobody has acknowledged, newest first.

    Example: budget alerts list --all --format csv
    """
    show(_page(everything, budget or [], limit), _COLUMNS, form, empty="no such alerts")


@alerts.command("ack")
@alerts.command("acknowledge", hidden=True)  # the platform's word
def acknowledge(
    alert_id: Annotated[list[UUID], typer.Argument(metavar="ALERT_ID...", help="As `budget alerts list` says.")],
) -> None:
    """
    Take note of alerts; whoever did it first stays named.

    Example: budget alerts ack 6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10
    """
    for one in alert_id:
        _, answer = ask("POST", f"/api/alerts/{one}/acknowledge")
        print(printable(f"{one}: acknowledged by {answer['acknowledged_by']} at {answer['acknowledged_at']}"))


@alerts.command("watch")
def watch(
    *,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="How often to look.", min=0.2)] = 2.0,
    form: Annotated[Format, typer.Option("--format", help="table is a line each, json an object each.")] = Format.TABLE,
) -> None:
    """
    Print alerts that are open, then each new one, until Ctrl-C.

    Example: budget alerts watch --every 5
    """
    if form is Format.CSV:
        raise typer.BadParameter("csv is for `budget alerts list`", param_hint="--format")
    for alert in _arriving(every):
        if form is Format.JSON:
            show_json(alert)
        else:
            line = f"{alert['raised_at']} {alert['severity']:7} {alert['name']}: {alert['message']}"
            print(printable(line), flush=True)


def _arriving(every: float) -> Iterator[dict[str, Any]]:
    # What is known is read first: an alert in between is then open and shown, else it would be known and never shown.
    known = {alert["alert_id"] for alert in _page(True)}
    page = _page(False)
    yield from reversed(page)
    known |= {alert["alert_id"] for alert in page}
    while True:
        time.sleep(every)
        page = _page(True)
        yield from (alert for alert in reversed(page) if alert["alert_id"] not in known)
        # Those that left the newest page cannot come again, for it is in order.
        known = {alert["alert_id"] for alert in page}


def _page(everything: bool, budgets: Sequence[str] = (), limit: int = 1000) -> list[dict[str, Any]]:
    query = {"acknowledged": None if everything else "false", "budget_id": list(budgets), "page_size": limit}
    _, page = ask("GET", "/api/alerts", query=query)
    found: list[dict[str, Any]] = page["items"]
    return found
