"""What a call would hold on each of its budgets, and what is decided of it: the one engine of checks and of replays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from budget_bus.consumers.estimates import Estimate
from budget_bus.consumers.leases import of_calls
from budget_bus.policy.budget import Balance, Budget, Unit
from budget_bus.policy.decide import Line, Verdict, decide
from budget_bus.policy.lease import grant
from budget_bus.policy.scope import Call
from budget_bus.policy.windows import Window
from budget_bus.store.catalogue import Catalogue

BalanceOf = Callable[[Budget, Window], Balance]


@dataclass(frozen=True, slots=True)
class Weighed:
    """A verdict over *lines*, and the *estimate* for all the *calls* that would be set aside."""

    lines: list[Line]
    verdict: Verdict
    estimate: Estimate
    calls: int


def weigh(
    catalogue: Catalogue,
    call: Call,
    estimate: Estimate,
    at: datetime,
    balance_of: BalanceOf,
    *,
    lease_calls: int | None,
    critical: bool,
    overruled: Callable[[list[Line]], Verdict | None] = lambda _: None,
) -> Weighed:
    """
    Decide on a call of that *estimate*, or on a lease of up to *lease_calls* of them.

    A verdict from *overruled* comes before that of the balances.
    """
    lines, calls = lines_of(catalogue, call, estimate, at, balance_of), 1
    if lease_calls:
        calls = grant(lines, lease_calls)
    if calls > 1:
        estimate = of_calls(estimate, calls)
        lines = lines_of(catalogue, call, estimate, at, balance_of, calls=calls)
    return Weighed(lines, overruled(lines) or decide(lines, critical=critical), estimate, calls)


def lines_of(
    catalogue: Catalogue, call: Call, estimate: Estimate, at: datetime, balance_of: BalanceOf, *, calls: int = 1
) -> list[Line]:
    """What *call* (or *calls* like it, of that *estimate*) would hold on each of its budgets."""
    lines = []
    for budget in catalogue.matching(call):
        window = catalogue.window(budget, at, call)
        balance = balance_of(budget, window)
        amount = amount_on(catalogue, budget, estimate, at, calls)
        limit = budget.limit_in(window, balance, at)
        lines.append(Line(budget, catalogue.policy_of(budget), window, balance, amount, limit))
    return lines


def amount_on(catalogue: Catalogue, budget: Budget, estimate: Estimate, at: datetime, calls: int = 1) -> int | None:
    """What a call (or *calls*, of that *estimate*) would hold on *budget*; None if its cost is not known."""
    unit = budget.spec.unit
    if unit is not Unit.COST:
        return calls if unit is Unit.REQUESTS else estimate.tokens
    if estimate.cost is None:
        return None
    return catalogue.cost_in(budget, estimate.cost, estimate.currency, at, up=True)


def spent_on(
    catalogue: Catalogue, budget: Budget, *, tokens: int, cost: int | None, currency: str, at: datetime
) -> int:
    """What an event adds to what is spent of *budget*; nothing while it has no price or no rate."""
    if budget.spec.unit is Unit.REQUESTS:
        return 1
    if budget.spec.unit is Unit.TOKENS:
        return tokens
    return 0 if cost is None else catalogue.cost_in(budget, cost, currency, at) or 0
