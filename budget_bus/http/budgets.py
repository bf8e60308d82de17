"""Budgets with the balances of their current windows, as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from budget_bus.http.parts import Parts
from budget_bus.policy.budget import Balance, Budget, Policy
from budget_bus.policy.windows import Window
from budget_bus.store import reads


class BudgetView(BaseModel):
    """
    One budget and its balance in the window that is current at `as_of`. Amounts are strings in the budget's unit.

    `policy` is the one in force; `policy_source` says whether the limit names it or follows the default.
    """

    budget_id: UUID
    name: str
    scope: dict[str, Any]
    period: str
    unit: str
    currency: str | None
    policy: str
    policy_source: Literal["limit", "default"]
    ceiling_percent: int | None
    thresholds: list[int]
    timezone: str
    week_start: int
    month_anchor: int
    shadow: bool
    limit_version: int
    limit: str
    spent: str
    held: str
    unconfirmed: str
    available: str
    window_start: datetime
    window_end: datetime | None
    as_of: datetime


async def views(parts: Parts, budgets: Sequence[Budget]) -> list[BudgetView]:
    """*budgets* with their balances, in their order."""
    now = parts.now()
    wanted = [(budget, budget.window(now)) for budget in budgets]
    found = await reads.balances(parts.pool, wanted)
    default = await reads.default_policy(parts.pool, Policy(parts.settings.enforcement_level))
    return [
        _view(budget, window, balance, default, now) for (budget, window), balance in zip(wanted, found, strict=True)
    ]


def _view(budget: Budget, window: Window, balance: Balance, default: Policy, now: datetime) -> BudgetView:
    spec = budget.spec
    return BudgetView(
        budget_id=budget.budget_id,
        name=spec.name,
        scope=spec.scope.to_json(),
        period=spec.period.value,
        unit=spec.unit.value,
        currency=spec.currency,
        policy=(spec.policy or default).value,
        policy_source="limit" if spec.policy else "default",
        ceiling_percent=spec.ceiling_percent,
        thresholds=list(spec.thresholds),
        timezone=spec.timezone,
        week_start=spec.week_start,
        month_anchor=spec.month_anchor,
        shadow=spec.shadow,
        limit_version=budget.limit_version,
        limit=budget.write(spec.limit),
        spent=budget.write(balance.spent),
        held=budget.write(balance.held),
        unconfirmed=budget.write(balance.unconfirmed),
        available=budget.write(spec.limit - balance.committed),
        window_start=window.start,
        window_end=window.end,
        as_of=now,
    )
