"""`budget plan`: how much a component may plan to spend."""

from __future__ import annotations

from typing import Annotated

import typer

from budget_bus.cli.gateway import ask
from budget_bus.cli.render import Format, FormatOption, printable, show, show_json

_COLUMNS = {
    "Budget": "name",
    "Period": "period",
    "Unit": "unit",
    "Amount": "amount",
    "Available": "available",
    "For others": "others",
    "Windows": "windows",
    "Binding": "binding",
    "Explanation": "explanation",
}


def show_plan(
    component: Annotated[str, typer.Argument(help="Whose plan it is.")],
    *,
    until: Annotated[str, typer.Option(help="Until when, e.g. 2026-12-01T00:00:00Z.")],
    confidence: Annotated[float, typer.Option(help="How sure it is to be.", min=0.5, max=0.99)] = 0.9,
    provider: Annotated[str | None, typer.Option(help="If all planned calls are to this provider.")] = None,
    model: Annotated[str | None, typer.Option(help="If all planned calls are to this model.")] = None,
    task_type: Annotated[str | None, typer.Option(help="If all planned calls are of this type.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Say how much a component may plan to spend until a moment, and with what confidence.

    It is the least that any hard budget leaves, less what all others are forecast to spend of it.

    Example: budget plan apollo --until 2026-12-01T00:00:00Z --confidence 0.95
    """
    query = {"component": component, "until": until, "confidence": confidence, "provider": provider, "model": model,
             "task_type": task_type}  # fmt: skip
    _, answer = ask("GET", "/api/plan", query=query)
    if form is Format.JSON:
        show_json(answer)
        return
    if form is Format.TABLE:
        print(printable(answer["sentence"]))
    show(answer["budgets"], _COLUMNS, form, empty="no hard budget counts its calls")
