"""`budget optimize`: what would save money, and one of the suggestions put into effect."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from budget_bus.cli.gateway import ask
from budget_bus.cli.render import Format, FormatOption, printable, show, show_json
from budget_bus.errors import Rejected

_COLUMNS = {
    "#": "number",
    "Saving": "saving",
    "Share": "share",
    "Kind": "kind",
    "Suggestion": "title",
    "Command": "command",
}
_PATIENCE_S = 600.0  # the ledger of the window is read more than once


class Goal(StrEnum):
    """What to look for."""

    COST = "cost"
    CAPACITY = "capacity"


DaysOption = Annotated[int, typer.Option(min=1, max=366, help="How many days until now to go by.")]
GoalOption = Annotated[
    Goal | None, typer.Option(help="Only what makes calls cheaper, or only limits.", case_sensitive=False)
]
AlsoOption = Annotated[
    list[str] | None,
    typer.Option(
        "--also-consider",
        metavar="MODEL=MODEL",
        help="Models that may stand in for each other, e.g. openai/gpt-4o=openai/gpt-4o-mini; may be repeated.",
    ),
]
DeferrableOption = Annotated[
    list[str] | None, typer.Option(help="A task type that can wait for a batch; may be repeated.")
]
ApplyOption = Annotated[
    int | None, typer.Option("--apply", metavar="N", min=1, help="Put the suggestion with this number into effect.")
]


def optimize(
    *,
    days: DaysOption = 30,
    goal: GoalOption = None,
    also_consider: AlsoOption = None,
    deferrable: DeferrableOption = None,
    apply: ApplyOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --apply.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="With the table, say why and what is assumed.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Suggest what would save money, and limits that would do better, each with what two replays of the past differ by.

    Nothing is changed, but by --apply, which shows the command that it runs and asks.

    Example: budget optimize --days 7 --deferrable nightly --explain
    """
    asked = {
        "days": days,
        "goal": goal.value if goal else None,
        "also_consider": [_pair(text) for text in also_consider or ()] or None,
        "deferrable": deferrable or None,
    }
    body = {key: value for key, value in asked.items() if value is not None}
    _, advice = ask("POST", "/api/optimize", body=body, timeout_s=_PATIENCE_S)
    if apply is not None:
        _apply(advice["suggestions"], apply, yes=yes)
    elif form is Format.JSON:
        show_json(advice)
    else:
        _list(advice, form, explain=explain)


def _pair(text: str) -> list[str]:
    models = text.split("=")
    if len(models) < 2 or not all("/" in model for model in models):
        message = f"{text!r} is not like openai/gpt-4o=openai/gpt-4o-mini"
        raise typer.BadParameter(message, param_hint="--also-consider")
    return models


def _list(advice: dict[str, Any], form: Format, *, explain: bool) -> None:
    found = advice["suggestions"]
    rows = [
        {**one, "number": number, "share": f"{one['share_percent']}%", "command": one["apply"]["command"]}
        for number, one in enumerate(found, 1)
    ]
    show(rows, _COLUMNS, form, empty="no suggestions")
    if form is Format.CSV:
        return
    if explain:
        for row in rows:
            print(printable(f"\n{row['number']}. {row['title']}\n   {row['detail']}\n   Assumed: {row['assumption']}"))
    if found:
        print(f"\ncheaper calls together: {advice['total_saving']} of {advice['total_cost']} {advice['currency']}")
    if advice["detail"]:
        print(printable(advice["detail"]), file=sys.stderr)


def _apply(found: list[dict[str, Any]], number: int, *, yes: bool) -> None:
    if number > len(found):
        raise Rejected(f"there is no suggestion {number}; `budget optimize` lists {len(found)}")
    one = found[number - 1]
    todo = one["apply"]
    print(printable(f"{one['title']}\n{one['detail']}\nAssumed: {one['assumption']}"), file=sys.stderr)
    if todo["command"] is None:
        raise Rejected("this is for the component to change, so there is no command for it")
    print(printable(todo["command"]))
    if not yes:
        typer.confirm("Run this?", abort=True, err=True)
    ask(todo["method"], todo["path"], body=todo["body"])
    print("done", file=sys.stderr)
