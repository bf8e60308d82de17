"""When a forecast that passes a threshold is worth an alert: not when it wobbles about it."""

from __future__ import annotations

from typing import NamedTuple

from budget_bus.policy.alerts import Crossing, reached
from budget_bus.policy.budget import Basis, Budget

# In percent of a threshold: a forecast below that is clearly below it.
_CLEARLY = 95


class Watch(NamedTuple):
    """
    What the last forecast of a window reached, as thresholds in percent of the limit's `version`; 0 for none.

    `seen` is the highest that its expected value reached, `kept` the highest that it was not clearly below, and
    `announced` the highest that was told and has not recovered.
    """

    version: int = 0
    seen: int = 0
    kept: int = 0
    announced: int = 0


def watch(budget: Budget, was: Watch, *, expected: int, low: int | None, limit: int) -> tuple[list[Crossing], Watch]:
    """
    What to tell of a forecast of the same window as the one before, and what to remember.

    A threshold is told once two forecasts in a row reach it, or when the *low* end of the band does; it has recovered
    once two in a row are clearly below. Both are about the limit as it is: a changed one is a new version.
    """
    same = was.version == budget.limit_version
    thresholds = budget.spec.thresholds
    hit = reached(budget, expected, limit)
    sure = reached(budget, low, limit) if low is not None else ()
    near = tuple(percent for percent in thresholds if 100 * 100 * expected >= _CLEARLY * percent * limit)
    agreed = [percent for percent in hit if percent in sure or (same and percent <= was.seen)]
    up = [percent for percent in agreed if not same or percent > was.announced]
    down = [
        percent
        for percent in thresholds
        if percent <= was.announced and percent not in near and not (same and percent <= was.kept)
    ]
    told = {percent for percent in thresholds if same and percent <= was.announced and percent not in down}
    now = Watch(budget.limit_version, max(hit, default=0), max(near, default=0), max({*told, *agreed}, default=0))
    if Basis.FORECAST not in budget.spec.alert_on:
        return [], now._replace(announced=0)
    found = [Crossing(Basis.FORECAST, percent, True) for percent in up]
    return [*found, *(Crossing(Basis.FORECAST, percent, False) for percent in down)], now
