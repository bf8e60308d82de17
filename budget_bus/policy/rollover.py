"""What a window hands on to a later one of what it did not use."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from budget_bus.policy.budget import Balance, Budget
from budget_bus.policy.windows import Window

_INSTANT = timedelta(microseconds=1)


class Carried(NamedTuple):
    """`out` leaves the window before, `into` comes into the new one: idle windows between add theirs."""

    out: int
    into: int


def carried(budget: Budget, before: Window, balance: Balance, window: Window) -> Carried:
    """
    What *window* begins with, given the last window that was used *before* it, and its *balance*.

    Held and unconfirmed amounts count as used. Windows between the two were idle; each adds its limit. Never more
    than the cap is carried, and what the window before has handed on already is not handed on twice.
    """
    cap = budget.spec.rollover_cap or 0
    limit = budget.limit_in(before, balance, window.start)
    out = amount = 0 if balance.carried_out else max(0, min(cap, limit - balance.committed))
    at = before.end
    while at is not None and at < window.start and amount < cap:
        idle = budget.limit_at(at)
        if not idle or balance.carried_out:
            break
        amount = min(cap, amount + idle)
        at = budget.window(at).end
    return Carried(out, amount)


def hands_on(budget: Budget, before: Window, at: datetime) -> bool:
    """Whether *before* was still running when *budget* began to hand on, and is over at *at*."""
    since = budget.rollover_since
    return since is not None and before.end is not None and since < before.end <= at
