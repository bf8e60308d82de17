"""Which thresholds a balance has reached, and which it has fallen below again."""

from __future__ import annotations

from typing import NamedTuple

from budget_bus.policy.budget import Balance, Basis, Budget, Reached


class Crossing(NamedTuple):
    """One threshold, in percent of the limit, passed on its way up, or down again."""

    basis: Basis
    percent: int
    up: bool


def reached(budget: Budget, amount: int, limit: int) -> tuple[int, ...]:
    """The thresholds, in percent of *limit*, that *amount* has reached; a limit of 0 is reached by the first amount."""
    return tuple(percent for percent in budget.spec.thresholds if amount > 0 and 100 * amount >= percent * limit)


def crossings(budget: Budget, balance: Balance, limit: int) -> tuple[list[Crossing], Reached]:
    """
    What *balance* has crossed since `balance.reached`, and the state to remember instead of it.

    A changed limit is a new version, of which every threshold is announced anew; what was reached of the old version
    and is not of the new one has recovered.
    """
    was, found = balance.reached, []
    same = was.version == budget.limit_version
    now = {}
    for basis, amount, before in (
        (Basis.SPENT, balance.spent, was.spent),
        (Basis.COMMITTED, balance.committed, was.committed),
    ):
        hit = reached(budget, amount, limit) if basis in budget.spec.alert_on else ()
        found += [Crossing(basis, percent, True) for percent in hit if not same or percent > before]
        gone = [p for p in budget.spec.thresholds if p <= before and p not in hit]
        found += [Crossing(basis, percent, False) for percent in gone if basis in budget.spec.alert_on]
        now[basis] = max(hit, default=0)
    return found, Reached(budget.limit_version, now[Basis.SPENT], now[Basis.COMMITTED])
