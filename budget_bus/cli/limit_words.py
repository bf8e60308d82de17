"""What people type of a budget: its id or name, an amount, how long, until when."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from uuid import UUID

import typer

from budget_bus.cli.gateway import items
from budget_bus.errors import NotFound, Rejected

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

BudgetArgument = Annotated[
    str, typer.Argument(metavar="BUDGET", help="The budget's id, or its name when no other has it.")
]

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def budget_id_of(budget: str) -> str:
    """
    The id of the budget that is meant.

    Raises:
        NotFound: none is called so. Rejected: several are.
    """
    try:
        return str(UUID(budget))
    except ValueError:
        pass
    ids = [item["budget_id"] for item in items("/api/limits") if item.get("name") == budget]
    if not ids:
        raise NotFound(f"no budget is called {budget!r}; `budget limits list` shows them")
    if len(ids) > 1:
        raise Rejected(f"{len(ids)} budgets are called {budget!r}; name one by its id: {', '.join(ids)}")
    return str(ids[0])


def amount_in(unit: str, text: str) -> str:
    """An amount of *unit*, as it was typed; what cannot be one is bad usage."""
    from budget_bus.money import parse_amount

    if unit == "cost":
        try:
            parse_amount(text, field="AMOUNT")
        except Rejected as error:
            raise typer.BadParameter(error.errors[0].message, param_hint="AMOUNT") from None
    elif not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f"{text!r} is not a whole number of {unit}", param_hint="AMOUNT")
    return text


def number(text: str, hint: str) -> str:
    """A number, as it was typed; whether it fits the budget is for the service to say."""
    try:
        finite = Decimal(text).is_finite()
    except InvalidOperation:
        finite = False
    if not finite:
        raise typer.BadParameter(f"{text!r} is not a number", param_hint=hint)
    return text


def seconds(text: str, hint: str) -> int:
    """A duration such as 90, 45s, 30m, 2h, 1d or 1w in seconds."""
    found = re.fullmatch(r"([0-9]{1,9})([smhdw]?)", text.strip().lower())
    if not found or not int(found[1]):
        raise typer.BadParameter(f"{text!r} is not a duration; write for example 30m, 2h or 1d", param_hint=hint)
    return int(found[1]) * _UNITS_S[found[2]]


def instant(text: str, hint: str) -> str:
    """A moment with its zone, as it was typed."""
    try:
        zoned = datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        zoned = False
    if not zoned:
        message = f"{text!r} is not a moment with its zone; write for example 2026-11-01T18:00:00Z"
        raise typer.BadParameter(message, param_hint=hint)
    return text


def measure(budget: dict[str, Any], key: str) -> str:
    """An amount of a budget with what it is measured in."""
    return f"{budget[key]} {budget.get('currency') if budget.get('unit') == 'cost' else budget.get('unit')}"
