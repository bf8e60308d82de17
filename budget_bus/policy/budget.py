"""A budget and its balance as values, and how their amounts are written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple
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


class Basis(StrEnum):
    """What thresholds are compared with: what is spent, with what is held and unconfirmed too, or what will be."""

    SPENT = "spent"
    COMMITTED = "committed"
    FORECAST = "forecast"


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """
    What an operator says of a budget. `limit` is in the unit's smallest part; `policy` None follows the default.

    With `parent_id` it is an allocation: its limit is `percent` of its parent's, and `limit` is 0. `rollover_cap` is
    the most that a window hands on to the next of what it did not use. `context_ttl_s` goes with period per_context.
    """

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
    parent_id: UUID | None = None
    percent: Decimal | None = None
    rollover_cap: int | None = None
    context_ttl_s: int | None = None
    critical_may_pass: bool = False
    alert_on: tuple[Basis, ...] = (Basis.SPENT,)


@dataclass(frozen=True, slots=True)
class Raise:
    """An amount that a limit is higher by in `[starts_at, ends_at)`."""

    raise_id: UUID
    amount: int
    starts_at: datetime
    ends_at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """
    A budget in force. `limit_version` grows with every change of the limit: alerts are once per version.

    `parent` is there if and only if it is an allocation. `rollover_since` is when it began to hand on what is unused.
    """

    budget_id: UUID
    spec: LimitSpec
    limit_version: int
    raises: tuple[Raise, ...] = ()
    parent: Budget | None = None
    rollover_since: datetime | None = None

    def limit_at(self, at: datetime) -> int:
        """
        The limit at *at*, raises included. An allocation is rounded down, so that together allocations never pass
        what they are parts of.
        """
        limit = self.spec.limit
        if self.parent is not None and self.spec.percent is not None:
            limit = int(self.parent.limit_at(at) * self.spec.percent / 100)
        return limit + sum(r.amount for r in self.raises if r.starts_at <= at < r.ends_at)

    def limit_in(self, window: Window, balance: Balance, now: datetime) -> int:
        """The limit of *window* at *now*, or at its end if that has passed, with what was carried over."""
        at = now if window.end is None or now < window.end else window.end - _INSTANT
        return self.limit_at(at) + balance.carried_in - balance.carried_out

    def window(self, at: datetime) -> Window:
        spec = self.spec
        return window_of(spec.period, spec.timezone, at, week_start=spec.week_start, month_anchor=spec.month_anchor)

    def write(self, amount: int) -> str:
        """An amount of this budget's unit as API text."""
        return format_nanos(amount) if self.spec.unit is Unit.COST else str(amount)


_INSTANT = timedelta(microseconds=1)


class Reached(NamedTuple):
    """The highest thresholds that a balance has reached, in percent of the limit's `version`; 0 for none."""

    version: int = 0
    spent: int = 0
    committed: int = 0


_NOTHING = Reached()


@dataclass(frozen=True, slots=True)
class Balance:
    """
    What one window of a budget has taken so far, in the budget's unit.

    `carried_in` came from the windows before and adds to the limit; `carried_out` was handed on and is gone from it.
    """

    spent: int = 0
    held: int = 0
    unconfirmed: int = 0
    carried_in: int = 0
    carried_out: int = 0
    reached: Reached = _NOTHING

    @property
    def committed(self) -> int:
        return self.spent + self.held + self.unconfirmed

    def moved(self, *, spent: int = 0, held: int = 0, unconfirmed: int = 0) -> Balance:
        """This balance after a change."""
        return replace(
            self, spent=self.spent + spent, held=self.held + held, unconfirmed=self.unconfirmed + unconfirmed
        )
