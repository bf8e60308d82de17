"""Which thresholds a balance has reached."""

from __future__ import annotations

from budget_bus.policy.budget import Budget


def reached(budget: Budget, spent: int) -> tuple[int, ...]:
    """
    The thresholds, in percent of the limit, that *spent* has reached; a limit of 0 is reached by the first amount.

    Not only those that this change crossed: a limit may have been lowered below what is spent, or been made after it.
    """
    limit = budget.spec.limit
    return tuple(percent for percent in budget.spec.thresholds if spent > 0 and 100 * spent >= percent * limit)
