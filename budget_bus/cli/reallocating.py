"""`budget limits reallocate`: cut a budget anew between its allocations."""

from __future__ import annotations

from typing import Annotated

import typer

from budget_bus.cli.gateway import ask
from budget_bus.cli.limit_words import budget_id_of, number

ParentArgument = Annotated[
    str, typer.Argument(metavar="PARENT", help="The budget that is cut: its id, or its name when no other has it.")
]
SharesArgument = Annotated[
    list[str], typer.Argument(metavar="ALLOCATION=PERCENT...", help="Each by its id or name, e.g. codex=40 rhetor=60.")
]


def reallocate(parent: ParentArgument, shares: SharesArgument) -> None:
    """
    Give allocations of a budget other percentages, all at once: one can grow by what another loses.

    Example: budget limits reallocate daily codex=40 rhetor=60
    """
    percents = dict(map(_share, shares))
    if len(percents) < len(shares):
        raise typer.BadParameter("an allocation is named twice", param_hint="ALLOCATION=PERCENT")
    body = {"percents": {budget_id_of(name): percent for name, percent in percents.items()}}
    _, done = ask("POST", f"/api/limits/{budget_id_of(parent)}/reallocate", body=body)
    for one in done["items"]:
        print(f"{one['budget_id']} ({one['name']}): {one['percent']} %")


def _share(text: str) -> tuple[str, str]:
    name, equals, percent = text.rpartition("=")
    if not (name and equals and percent):
        raise typer.BadParameter(f"{text!r} is not like codex=40", param_hint="ALLOCATION=PERCENT")
    return name, number(percent, "ALLOCATION=PERCENT")
