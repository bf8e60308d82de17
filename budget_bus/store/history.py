"""What a limit was at a moment that has passed: from the changes that were written down, and the raises."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from budget_bus.money import parse_amount
from budget_bus.policy.budget import Budget, Unit
from budget_bus.store.sql import queries

_SQL = queries("windows")


@dataclass(frozen=True, slots=True)
class _Said:
    """What a limit was from `at` on: an amount, or a part of another budget's."""

    at: datetime
    amount: int
    parent_id: UUID | None
    percent: Decimal


@dataclass(slots=True)
class _History:
    """All that was said of some budgets, each oldest first, and by what they were raised."""

    said: dict[UUID, list[_Said]] = field(default_factory=dict)
    raises: dict[UUID, list[tuple[int, datetime, datetime]]] = field(default_factory=lambda: defaultdict(list))

    def limit_at(self, budget_id: UUID, at: datetime) -> int:
        # A window from before the budget was made has the limit that it was made with.
        told = self.said[budget_id]
        said = told[max(0, bisect_right(told, at, key=lambda one: one.at) - 1)]
        raised = sum(amount for amount, start, end in self.raises[budget_id] if start <= at < end)
        if said.parent_id is None:
            return said.amount + raised
        return int(self.limit_at(said.parent_id, at) * said.percent / 100) + raised


async def limits_at(pool: asyncpg.Pool, budget: Budget, moments: Sequence[datetime]) -> list[int]:
    """The limit of *budget* at each of *moments*, without what its windows carried over."""
    history, asked = _History(), {budget.budget_id}
    while asked:
        for budget_id in asked:
            history.said[budget_id] = []
        for row in await pool.fetch(_SQL["limits_of"], [str(budget_id) for budget_id in asked]):
            history.said[UUID(row["after"]["budget_id"])].append(_said(row["at"], row["after"]))
        parents = {one.parent_id for told in history.said.values() for one in told if one.parent_id}
        asked = parents - history.said.keys()
    for row in await pool.fetch(_SQL["raises_of"], list(history.said)):
        history.raises[row["budget_id"]].append((row["amount"], row["starts_at"], row["ends_at"]))
    return [history.limit_at(budget.budget_id, at) for at in moments]


def _said(at: datetime, after: dict[str, Any]) -> _Said:
    if after.get("parent"):
        return _Said(at, 0, UUID(after["parent"]), Decimal(after["percent"]))
    amount = parse_amount(after["limit"]) if after["unit"] == Unit.COST else int(after["limit"])
    return _Said(at, amount, None, Decimal(0))
