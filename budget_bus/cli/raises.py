"""`budget limits raise`, `end-raises` and `windows`: one budget over time."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from budget_bus.cli.gateway import ask, items
from budget_bus.cli.limit_words import BudgetArgument, budget_id_of, instant, measure, number, seconds
from budget_bus.cli.render import Format, FormatOption, show

_COLUMNS = {
    "Window start": "window_start",
    "Window end": "window_end",
    "Context": "context_id",
    "Limit": "limit",
    "Spent": "spent",
    "Held": "held",
    "Unconfirmed": "unconfirmed",
    "Available": "available",
    "Carried in": "carried_in",
    "Carried out": "carried_out",
}


def raise_limit(
    budget: BudgetArgument,
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="By how much, in the budget's unit.")],
    *,
    until: Annotated[str | None, typer.Option(help="Until when, e.g. 2026-11-01T18:00:00Z.")] = None,
    for_: Annotated[str | None, typer.Option("--for", help="For how long from now, e.g. 30m, 2h or 1d.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for whoever looks at it later.")] = None,
) -> None:
    """
    Let a limit be higher for a time; it ends by itself. Raises add up.

    Example: budget limits raise daily 5.0 --for 2h --reason "a long run"
    """
    if (until is None) == (for_ is None):
        raise typer.BadParameter("say until when, or for how long", param_hint="--until / --for")
    end = {"expires_at": instant(until, "--until")} if until is not None else {"ttl_s": seconds(for_ or "", "--for")}
    body = {"amount": number(amount, "AMOUNT"), **end, **({"reason": reason} if reason else {})}
    _, raised = ask("POST", f"/api/limits/{budget_id_of(budget)}/raise", body=body)
    print(f"raised {_sentence(raised)}")


def end_raises(budget: BudgetArgument) -> None:
    """
    End all raises of a limit now.

    Example: budget limits end-raises daily
    """
    _, ended = ask("DELETE", f"/api/limits/{budget_id_of(budget)}/raise")
    print(f"ended {_sentence(ended)}")


def list_windows(
    budget: BudgetArgument,
    *,
    start: Annotated[str | None, typer.Option(help="Windows that reach past this instant.")] = None,
    end: Annotated[str | None, typer.Option(help="Windows that begin before this instant.")] = None,
    context_id: Annotated[str | None, typer.Option(help="per_context: only the windows of this context.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    List a budget's windows, newest first: the present one, and the past ones in which something was used.

    Example: budget limits windows daily --start 2026-11-01T00:00:00Z --format csv
    """
    query = {"start": start, "end": end, "context_id": context_id}
    found = items(f"/api/limits/{budget_id_of(budget)}/windows", query)
    show(found, _COLUMNS, form, empty="no window of this budget was used yet")


def _sentence(budget: dict[str, Any]) -> str:
    running = [one["ends_at"] for one in budget["raises"]]
    until = f" by {measure(budget, 'raised')}, the last until {max(running)}" if running else ", no raise is left"
    return f"{budget['budget_id']} ({budget['name']}): {measure(budget, 'limit')}{until}"
