"""Which thresholds a change of a balance crosses."""

from __future__ import annotations

from budget_bus.policy.budget import Budget


def crossed(budget: Budget, *, before: int, after: int) -> tuple[int, ...]:
    """
    The thresholds, in percent of the limit, that going from *before* to *after* spent reaches for the first time.

    A limit of 0 is reached by the first amount spent.
    """
    limit = budget.spec.limit
    return tuple(
        percent
        for percent in budget.spec.thresholds
        if 100 * after >= percent * limit and after > 0 and not (100 * before >= percent * limit and before > 0)
    )
