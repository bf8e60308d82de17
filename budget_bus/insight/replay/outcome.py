"""What a replay comes to: sums of the past, sums of what would have been, and what would have been refused."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from budget_bus.insight.replay.costs import Used
from budget_bus.policy.pricing import PRICE_CURRENCY


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
    """The same calls as they were and as they would have been."""

    actual: Sums = field(default_factory=Sums)
    simulated: Sums = field(default_factory=Sums)

    @property
    def saved_nanos(self) -> int:
        """What the proposal would have saved; below zero if it would have cost more."""
        return self.actual.cost_nanos - self.simulated.cost_nanos


@dataclass(slots=True)
class Outcome:
    """All that a replay found out."""

    total: Compared = field(default_factory=Compared)
    by_component: dict[str, Compared] = field(default_factory=lambda: defaultdict(Compared))
    warnings: list[str] = field(default_factory=list)

    def count(self, was: Used, would_be: Used | None) -> None:
        """Count one event; None: it would have been refused."""
        for compared in (self.total, self.by_component[was.call.component]):
            compared.actual.add(was)
            if would_be is not None:
                compared.simulated.add(would_be)
