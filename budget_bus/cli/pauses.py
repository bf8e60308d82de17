"""`budget pause`, `budget resume` and `budget pauses`: who may make no calls for a time."""

from __future__ import annotations

import json
from typing import Annotated, Any
from uuid import UUID

import typer

from budget_bus.cli.gateway import ask, items
from budget_bus.cli.limit_words import instant, seconds
from budget_bus.cli.limits import Names, ScopeOption, scope_of
from budget_bus.cli.render import Format, FormatOption, printable, show

_COLUMNS = {
    "Pause id": "pause_id",
    "Scope": "scope",
    "Reason": "reason",
    "By": "actor",
    "Since": "since",
    "Until": "until",
    "Ended at": "ended_at",
    "Ended by": "ended_by",
}


def pause(
    *,
    reason: Annotated[str, typer.Option(help="Why; every denied check says so.")],
    component: Annotated[Names, typer.Option(help="Only calls of this component; may be repeated.")] = None,
    provider: Annotated[Names, typer.Option(help="Only calls of this provider; may be repeated.")] = None,
    model: Annotated[Names, typer.Option(help="Only this model; * stands for anything; may be repeated.")] = None,
    task_type: Annotated[Names, typer.Option(help="Only this task type; may be repeated.")] = None,
    context_id: Annotated[Names, typer.Option(help="Only this context; may be repeated.")] = None,
    user: Annotated[Names, typer.Option(help="Only this user; may be repeated.")] = None,
    scope: ScopeOption = None,
    everything: Annotated[bool, typer.Option("--everything", help="All calls of all components.")] = False,
    until: Annotated[str | None, typer.Option(help="Until when, e.g. 2026-11-01T18:00:00Z.")] = None,
    for_: Annotated[str | None, typer.Option("--for", help="For how long from now, e.g. 30m, 2h or 1d.")] = None,
) -> None:
    """
    Let nobody of a scope make calls, until it is resumed or for a time. What is paused already gets the new end.

    Example: budget pause --component rhetor --reason "a loop" --for 2h
    """
    named = {"component": component, "provider": provider, "model": model, "task_type": task_type,
             "context_id": context_id, "user": user}  # fmt: skip
    wanted = scope_of(named, scope)
    if bool(wanted) is everything:
        raise typer.BadParameter("say what to pause, e.g. --component rhetor, or --everything")
    if until is not None and for_ is not None:
        raise typer.BadParameter("say until when, or for how long", param_hint="--until / --for")
    end: dict[str, Any] = {"until": instant(until, "--until")} if until is not None else {}
    if for_ is not None:
        end = {"ttl_s": seconds(for_, "--for")}
    status, made = ask("POST", "/api/pauses", body={"scope": wanted, "reason": reason, **end})
    print(printable(f"{'paused' if status == 201 else 'changed'} {_sentence(made)}"))


def resume(
    pause_id: Annotated[UUID, typer.Argument(metavar="PAUSE_ID", help="As `budget pauses` says.")],
    *,
    reason: Annotated[str | None, typer.Option(help="Why it may go on, for the audit.")] = None,
) -> None:
    """
    End a pause: its scope may make calls again. One that has ended stays as it ended.

    Example: budget resume 6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10 --reason "the loop is mended"
    """
    _, ended = ask("DELETE", f"/api/pauses/{pause_id}", query={"reason": reason})
    print(printable(f"ended at {ended['ended_at']} by {ended['ended_by'] or 'itself'}: {_sentence(ended)}"))


def list_pauses(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those too that have ended.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    List the pauses that hold, or all that there ever were. The newest come first.

    Example: budget pauses --all --format csv
    """
    found = items("/api/pauses", {"active": None if everything else "true"})
    show(found, _COLUMNS, form, empty="nothing was ever paused" if everything else "nothing is paused")


def _sentence(one: dict[str, Any]) -> str:
    about = json.dumps(one["scope"], ensure_ascii=False) if one["scope"] else "everything"
    end = f"until {one['until']}" if one["until"] else "until it is resumed"
    return f"{one['pause_id']}: {about}, {end}, because: {one['reason']}"
