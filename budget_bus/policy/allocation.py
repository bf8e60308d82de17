"""What an allocation must be: a part of a parent of the same period and unit, all parts together at most the whole."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from uuid import UUID

from budget_bus.errors import FieldError, Rejected
from budget_bus.policy.budget import Budget, LimitSpec


def ancestry(budget: Budget) -> list[UUID]:
    """The ids of *budget* and of those whose limit it follows, upwards."""
    ids, at = [], budget
    while True:
        ids.append(at.budget_id)
        if at.parent is None:
            return ids
        at = at.parent


def check_allocation(spec: LimitSpec, budget_id: UUID, budgets: Mapping[UUID, Budget]) -> None:
    """
    Check *spec*, to be budget *budget_id*, against the *budgets* in force.

    Raises:
        Rejected: its parent is none, differs in what it counts, follows it, or would be given away by more than 100 %;
            or it has allocations itself, which a change would make disagree with it.
    """
    for child in budgets.values():
        if child.spec.parent_id == budget_id:
            _must_agree(child.spec, spec, f"has the allocation {child.spec.name!r}, which has")
    if spec.parent_id is None:
        return
    parent = budgets.get(spec.parent_id)
    if parent is None:
        raise _wrong("parent", f"names no budget in force: {spec.parent_id}")
    if budget_id in ancestry(parent):
        raise _wrong("parent", "follows this budget itself")
    _must_agree(spec, parent.spec, f"must be as its parent {parent.spec.name!r} has it:")
    siblings = [b for b in budgets.values() if b.spec.parent_id == spec.parent_id and b.budget_id != budget_id]
    taken = sum((b.spec.percent or Decimal(0) for b in siblings), Decimal(0))
    if taken + (spec.percent or 0) > 100:
        left = f"{(100 - taken).normalize():f}"
        raise _wrong("percent", f"is more than the {left} % that other allocations of {parent.spec.name!r} leave")


def check_percents(parent_id: UUID, percents: Mapping[UUID, Decimal], budgets: Mapping[UUID, Budget]) -> None:
    """
    Check new *percents* of allocations of one parent, all at once, against the *budgets* in force.

    Raises:
        Rejected: one is no allocation of it, or with those that stay as they are they have more than 100 %.
    """
    parts = {key: b.spec.percent or Decimal(0) for key, b in budgets.items() if b.spec.parent_id == parent_id}
    for budget_id in percents.keys() - parts.keys():
        raise _wrong(f"percents.{budget_id}", f"is no allocation of {budgets[parent_id].spec.name!r}")
    together = sum({**parts, **percents}.values(), Decimal(0))
    if together > 100:
        raise _wrong("percents", f"make {together.normalize():f} % of {budgets[parent_id].spec.name!r}; at most 100")


def _must_agree(child: LimitSpec, parent: LimitSpec, words: str) -> None:
    for name in ("period", "unit", "currency"):
        if getattr(child, name) != getattr(parent, name):
            value = getattr(parent if words.startswith("must") else child, name)
            raise _wrong(name, f"{words} {value}")


def _wrong(field: str, message: str) -> Rejected:
    return Rejected("invalid input", [FieldError(field, message)])
