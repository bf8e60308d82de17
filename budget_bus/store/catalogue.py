"""The budgets in force, cached by the catalogue's version."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from budget_bus.policy.budget import Budget, LimitSpec, Policy, Unit
from budget_bus.policy.scope import Call, parse_scope
from budget_bus.policy.windows import Period, Window
from budget_bus.store.sql import queries

_SQL = queries("catalogue")
_CACHED_CALLS = 20_000
_BUCKET_S = 900  # windows begin at multiples of 15 minutes in every zone


def budget_from_row(row: Any) -> Budget:
    spec = LimitSpec(
        name=row["name"],
        scope=parse_scope(row["scope"]),
        period=Period(row["period"]),
        unit=Unit(row["unit"]),
        limit=row["limit_amount"],
        currency=row["currency"],
        policy=Policy(row["policy"]) if row["policy"] else None,
        ceiling_percent=row["ceiling_percent"],
        thresholds=tuple(row["thresholds"]),
        timezone=row["timezone"],
        week_start=row["week_start"],
        month_anchor=row["month_anchor"],
        shadow=row["shadow"],
    )
    return Budget(row["budget_id"], spec, row["limit_version"])


@dataclass(slots=True)
class Catalogue:
    """
    What a consumer knows of the budgets. `refresh` inside a batch's transaction, after the shared lock, makes sure
    that no decision uses an old one.

    `default_policy` is what budgets without a policy of their own follow: the setting, or what an operator set.
    """

    setting_policy: Policy
    version: int = 0
    default_policy: Policy = Policy.WARN
    budgets: tuple[Budget, ...] = ()
    balance_ids: dict[tuple[UUID, datetime], int] = field(default_factory=dict)
    raised: set[UUID] = field(default_factory=set)  # alerts that are known to be committed
    _calls: dict[Call, tuple[Budget, ...]] = field(default_factory=dict)
    _windows: dict[tuple[UUID, int], Window] = field(default_factory=dict)

    async def refresh(self, connection: asyncpg.Connection, version: int | None = None) -> None:
        """Read the budgets again unless *version* (asked for when None) is the one that is known."""
        if version is None:
            version = int(await connection.fetchval(_SQL["version"]))
        if version == self.version and len(self.balance_ids) + len(self.raised) < _CACHED_CALLS:
            return
        budgets = tuple(budget_from_row(row) for row in await connection.fetch(_SQL["budgets"]))
        level = await connection.fetchval(_SQL["config"], "enforcement_level")
        self.budgets, self.default_policy = budgets, Policy(level) if level else self.setting_policy
        self.balance_ids.clear()
        self.raised.clear()
        self._calls.clear()
        self._windows.clear()
        self.version = version

    def matching(self, call: Call) -> tuple[Budget, ...]:
        """The budgets that *call* belongs to, in the catalogue's order."""
        found = self._calls.get(call)
        if found is None:
            if len(self._calls) >= _CACHED_CALLS:
                self._calls.clear()
            found = self._calls[call] = tuple(b for b in self.budgets if b.spec.scope.admits(call))
        return found

    def window(self, budget: Budget, at: datetime) -> Window:
        """The window of *budget* that *at* falls in."""
        key = (budget.budget_id, int(at.timestamp()) // _BUCKET_S)
        found = self._windows.get(key)
        if found is None:
            if len(self._windows) >= _CACHED_CALLS:
                self._windows.clear()
            found = self._windows[key] = budget.window(at)
        return found

    def policy_of(self, budget: Budget) -> Policy:
        return budget.spec.policy or self.default_policy
