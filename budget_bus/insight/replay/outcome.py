"""What a replay comes to: sums of the past, sums of what would have been, and what would have been refused."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from budget_bus.insight.replay.costs import Used
from budget_bus.policy.budget import Balance, Budget
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.policy.windows import Window

FIRST_REFUSALS = 50
_EXHAUSTED = 100


@dataclass(slots=True)
class Sums:
    """Exact sums of events. `cost_nanos` is in the currency of prices, `other_costs` are nanos by currency."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanos: int = 0
    unpriced_requests: int = 0
    other_costs: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, used: Used) -> None:
        self.requests += 1
        self.input_tokens += used.tokens.input
        self.output_tokens += used.tokens.output
        if used.cost is None:
            self.unpriced_requests += 1
        elif used.currency == PRICE_CURRENCY:
            self.cost_nanos += used.cost
        else:
            self.other_costs[used.currency] += used.cost


@dataclass(slots=True)
class Compared:
    """The same calls as they were and as they would have been; those `refused` are in the one and not in the other."""

    actual: Sums = field(default_factory=Sums)
    simulated: Sums = field(default_factory=Sums)
    refused: Sums = field(default_factory=Sums)

    @property
    def saved_nanos(self) -> int:
        """What the proposal would have saved; below zero if it would have cost more."""
        return self.actual.cost_nanos - self.simulated.cost_nanos


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that would have been refused, by which budget and why."""

    at: datetime
    budget_id: UUID | None
    budget: str | None
    component: str
    model: str
    reason: str | None


@dataclass(slots=True)
class BudgetOutcome:
    """What a budget would have refused, how full its fullest window got, and the windows that it exhausted."""

    budget: Budget
    refused: int = 0
    refused_nanos: int = 0  # what the refused calls did cost, in the currency of prices
    first_refused_at: datetime | None = None
    peak_committed: int = 0
    peak_limit: int = 0
    peak_at: datetime | None = None
    exhausted: list[tuple[Window, datetime]] = field(default_factory=list)
    _full: set[Window] = field(default_factory=set)

    @property
    def peak_percent(self) -> int | None:
        """How many whole percent of its limit the fullest window took; None with a limit of 0."""
        return 100 * self.peak_committed // self.peak_limit if self.peak_limit > 0 else None

    def look(self, window: Window, balance: Balance, at: datetime) -> None:
        """Note how full *window* is at *at*."""
        committed, limit = balance.committed, self.budget.limit_in(window, balance, at)
        if committed * max(self.peak_limit, 1) > self.peak_committed * max(limit, 1) or self.peak_at is None:
            self.peak_committed, self.peak_limit, self.peak_at = committed, limit, at
        if committed >= limit and committed and window not in self._full and len(self._full) < _EXHAUSTED:
            self._full.add(window)
            self.exhausted.append((window, at))


@dataclass(slots=True)
class Checks:
    """
    Decisions of the range: how many are the ones that production gave (`identical`), also in every balance that was
    shown with them (`same_balances`), and how they differ. `not_replayable` are of earlier releases, which kept too
    little of what was asked.
    """

    decided: int = 0
    identical: int = 0
    same_balances: int = 0
    refused: int = 0  # that were allowed
    allowed: int = 0  # that were denied
    denied_as_before: int = 0
    not_replayable: int = 0
    taken_over: int = 0


@dataclass(slots=True)
class Outcome:
    """All that a replay found out."""

    total: Compared = field(default_factory=Compared)
    by_component: dict[str, Compared] = field(default_factory=lambda: defaultdict(Compared))
    budgets: dict[UUID, BudgetOutcome] = field(default_factory=dict)
    checks: Checks = field(default_factory=Checks)
    assumed: Sums = field(default_factory=Sums)  # estimated: calls that were denied and would have been allowed
    refusals: list[Refusal] = field(default_factory=list)  # the first ones
    refusal_count: int = 0
    differences: list[str] = field(default_factory=list)  # the first decisions that are other ones
    warnings: list[str] = field(default_factory=list)

    def count(self, was: Used, would_be: Used | None) -> None:
        """Count one event; None: it would have been refused."""
        for compared in (self.total, self.by_component[was.call.component]):
            compared.actual.add(was)
            (compared.refused.add(was) if would_be is None else compared.simulated.add(would_be))

    def assume(self, used: Used) -> None:
        """Count a call that was never made, with what it was estimated at."""
        self.assumed.add(used)
        for compared in (self.total, self.by_component[used.call.component]):
            compared.simulated.add(used)

    def refuse(self, refusal: Refusal) -> None:
        """Count a call that would have been refused."""
        self.refusal_count += 1
        if len(self.refusals) < FIRST_REFUSALS:
            self.refusals.append(refusal)
        found = self.budgets.get(refusal.budget_id) if refusal.budget_id else None
        if found is not None:
            found.refused += 1
            found.first_refused_at = found.first_refused_at or refusal.at
