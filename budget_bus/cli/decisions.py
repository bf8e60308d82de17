"""`budget decisions`: what checks were answered, and why."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from budget_bus.cli.gateway import ask
from budget_bus.cli.render import Format, FormatOption, printable, show, show_json

decisions = typer.Typer(help="List and show the answers that checks got.", no_args_is_help=True)

_COLUMNS = {
    "Decided at": "decided_at",
    "Component": "component",
    "Model": "model",
    "Request id": "request_id",
    "Action": "action",
    "Reason": "reason",
    "Tokens": "estimated_tokens",
    "Cost": "estimated_cost",
    "Currency": "currency",
    "Binding budget": "binding_budget",
    "Stale": "stale",
}
_BUDGET_COLUMNS = {
    "Budget id": "budget_id",
    "Name": "name",
    "Policy": "policy",
    "Period": "period",
    "Unit": "unit",
    "Limit": "limit",
    "Spent": "spent",
    "Held": "held",
    "Unconfirmed": "unconfirmed",
    "Available": "available",
    "Would exceed": "would_exceed",
    "Binding": "binding",
}


class ActionName(StrEnum):
    """How a check was answered."""

    ALLOW = "allow"
    WARN = "warn"
    DEGRADE = "degrade"
    DENY = "deny"


@decisions.command("list")
def list_decisions(
    *,
    action: Annotated[
        list[ActionName] | None, typer.Option(help="Only these: allow, warn, degrade or deny; may be repeated.")
    ] = None,
    component: Annotated[list[str] | None, typer.Option(help="Only of this component; may be repeated.")] = None,
    provider: Annotated[list[str] | None, typer.Option(help="Only of this provider; may be repeated.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only of this model; may be repeated.")] = None,
    budget: Annotated[
        list[str] | None, typer.Option(metavar="BUDGET_ID", help="Only where this budget counted; may be repeated.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="From this instant on, e.g. 2026-11-01T00:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this instant.")] = None,
    limit: Annotated[int, typer.Option(help="Only the newest so many.", min=1, max=1000)] = 100,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    List decisions, newest first.

    Example: budget decisions list --action deny --since 2026-11-01T00:00:00Z
    """
    query = {
        "action": [name.value for name in action or []],
        "component": component or [],
        "provider": provider or [],
        "model": model or [],
        "budget_id": budget or [],
        "since": since,
        "until": until,
        "page_size": limit,
    }
    _, page = ask("GET", "/api/decisions", query=query)
    show(page["items"], _COLUMNS, form, empty="no such decisions")


@decisions.command("show")
def show_decision(
    request_id: Annotated[UUID, typer.Argument(metavar="REQUEST_ID", help="As `budget decisions list` says.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Show one decision with the budgets that counted, as they stood after it; as JSON the whole answer.

    Example: budget decisions show 6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10
    """
    _, answer = ask("GET", f"/api/decisions/{request_id}")
    if form is Format.JSON:
        show_json(answer)
        return
    if form is Format.TABLE:
        for line in _lines(answer):
            print(printable(line))
        print()
    show(answer.get("budgets") or [], _BUDGET_COLUMNS, form, empty="no budget counted")


def _lines(answer: dict[str, Any]) -> list[str]:
    reason = f": {answer['reason']}" if answer.get("reason") else ""
    priced = answer.get("estimated_cost") is not None
    cost = f"at most {answer['estimated_cost']} {answer.get('currency')}" if priced else "without a price"
    hold = answer.get("hold")
    lines = [
        f"{answer['action']}{reason}",
        f"decided at: {answer['decided_at']}{' on old numbers (stale)' if answer.get('stale') else ''}",
        f"estimate:   {answer.get('estimated_tokens')} tokens, {cost}",
        f"held until: {hold['expires_at']}" if hold else "held:       nothing",
    ]
    return lines + [f"warning:    {warning}" for warning in answer.get("warnings") or []]
