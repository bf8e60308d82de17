"""`budget holds`: what is set aside for calls that are under way, and giving it back."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

import typer

from budget_bus.cli.gateway import ask, items
from budget_bus.cli.render import Format, FormatOption, show

holds = typer.Typer(help="List what is set aside for calls, and give it back.", no_args_is_help=True)

_COLUMNS = {
    "Decided at": "decided_at",
    "Expires at": "expires_at",
    "Request id": "request_id",
    "State": "state",
    "Component": "component",
    "Provider": "provider",
    "Model": "model",
    "Context": "context_id",
    "Tokens": "tokens",
    "Amount": "amount",
    "Currency": "currency",
}


class StateName(StrEnum):
    """Holds that still count."""

    OPEN = "open"
    UNCONFIRMED = "unconfirmed"


@holds.command("list")
def list_holds(
    *,
    state: Annotated[
        StateName, typer.Option(help="open: the call may be under way; unconfirmed: it ran out and still counts.")
    ] = StateName.OPEN,
    component: Annotated[list[str] | None, typer.Option(help="Only of this component; may be repeated.")] = None,
    provider: Annotated[list[str] | None, typer.Option(help="Only of this provider; may be repeated.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only of this model; may be repeated.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    List holds, oldest first.

    Example: budget holds list --state unconfirmed --component rhetor
    """
    query = {
        "state": state.value,
        "component": component or [],
        "provider": provider or [],
        "model": model or [],
    }
    show(items("/api/holds", query), _COLUMNS, form, empty=f"no {state.value} holds")


@holds.command("release")
def release(
    request_id: Annotated[list[UUID], typer.Argument(metavar="REQUEST_ID...", help="As `budget holds list` says.")],
    *,
    reason: Annotated[str | None, typer.Option(help="Why, for whoever looks at it later.")] = None,
) -> None:
    """
    Give holds back whose calls were never made. What was recorded stays recorded.

    Example: budget holds release 6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10 --reason "the run was cancelled"
    """
    for one in request_id:
        _, hold = ask("POST", f"/api/holds/{one}/release", body={"reason": reason} if reason else {})
        amount = "nothing" if hold["amount"] is None else f"{hold['amount']} {hold['currency']}"
        print(f"{one}: released, {amount} of {hold['component']}; it is free as soon as the decider has read it")
