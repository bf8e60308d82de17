"""A budget and its balance as values, and how their amounts are written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from budget_bus.money import format_nanos
from budget_bus.policy.scope import Scope
from budget_bus.policy.windows import Period, Window, window_of

DEFAULT_THRESHOLDS = (50, 80, 100)


class Unit(StrEnum):
    """What a budget counts: nanos of its currency, tokens, or requests."""

    COST = "cost"
    TOKENS = "tokens"
    REQUESTS = "requests"


class Policy(StrEnum):
    """What happens over the limit."""

    IGNORE = "IGNORE"
    WARN = "WARN"
    SOFT_LIMIT = "SOFT_LIMIT"
    HARD_LIMIT = "HARD_LIMIT"


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """What an operator says of a budget. `limit` is in the unit's smallest part; `policy` None follows the default."""

    name: str
    scope: Scope
    period: Period
    unit: Unit
    limit: int
    currency: str | None
    policy: Policy | None = None
    ceiling_percent: int | None = None
    thresholds: tuple[int, ...] = DEFAULT_THRESHOLDS
    timezone: str = "UTC"
    week_start: int = 0
    month_anchor: int = 1
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget in force. `limit_version` grows with every change of the limit: alerts are once per version."""

    budget_id: UUID
    spec: LimitSpec
    limit_version: int

    def window(self, at: datetime) -> Window:
        spec = self.spec
        return window_of(spec.period, spec.timezone, at, week_start=spec.week_start, month_anchor=spec.month_anchor)

    def write(self, amount: int) -> str:
        """An amount of this budget's unit as API text."""
        return format_nanos(amount) if self.spec.unit is Unit.COST else str(amount)


@dataclass(frozen=True, slots=True)
class Balance:
    """What one window of a budget has taken so far, in the budget's unit."""

    spent: int = 0
    held: int = 0
    unconfirmed: int = 0

    @property
    def committed(self) -> int:
        return self.spent + self.held + self.unconfirmed
