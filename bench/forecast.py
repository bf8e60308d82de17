"""Forecasts of 90 days that are made of the real traces, beside the straight line: how far off, and how honest."""

from __future__ import annotations

import csv
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from statistics import mean
from typing import TYPE_CHECKING

from bench.dashboard import DAYS, TRACES
from budget_bus.errors import BudgetUnavailable
from budget_bus.insight.forecast import Spending, forecast
from budget_bus.insight.path import HIGH, LOW, Path
from budget_bus.policy.windows import Period, window_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Nanos per token, in and out: list prices of 2026-11 of the models that bench/dashboard.py gives the traces to.
_RATES = {"code": ((2500, 10_000), (3000, 15_000)), "conv": ((1000, 5000), (300, 2500))}
# How an hour of calls becomes 90 days of them; bench/results/README.md says it in words.
SHAPES = ("even", "stretched", "daily")
PERIODS = (Period.DAILY, Period.WEEKLY, Period.MONTHLY)
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_FIRST_DAY = 40  # of which on forecasts are made: the days before are their history
_HOUR = timedelta(hours=1)
CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True)
class Outcome:
    """One origin: how far off both were, and whether the band had the exhaustion, and the plan what others spent."""

    error: float
    run_rate_error: float | None
    exhausted: bool | None  # None: it had run out before
    planned: bool


def lacking() -> str | None:
    """What this needs and is not here, if anything."""
    return None if TRACES.is_dir() else f"the real traces are not at {TRACES}; README.md says where they are from"


@cache
def measured(every: int) -> tuple[dict[str, float], dict[str, float]]:
    """
    The straight line's numbers, then ours, with an origin every so many hours, of each shape and length of a window.

    Raises:
        BudgetUnavailable: the traces are not here.
    """
    if why := lacking():
        raise BudgetUnavailable(why)
    floor: dict[str, float] = {}
    ours: dict[str, float] = {}
    for shape in SHAPES:
        found = [outcome for period in PERIODS for outcome in outcomes(shape, period, every)]
        both = [one for one in found if one.run_rate_error is not None]
        floor[f"{shape}_error_percent"] = 100 * mean(one.run_rate_error or 0.0 for one in both)
        ours[f"{shape}_error_percent"] = 100 * mean(one.error for one in both)
        floor[f"{shape}_exhaustion_percent"] = 100 * (HIGH - LOW)
        ours[f"{shape}_exhaustion_percent"] = 100 * mean(one.exhausted for one in found if one.exhausted is not None)
        floor[f"{shape}_plan_percent"] = 100 * CONFIDENCE
        ours[f"{shape}_plan_percent"] = 100 * mean(one.planned for one in found)
    return floor, ours


def outcomes(shape: str, period: Period, every: int) -> Iterator[Outcome]:
    """What forecasts of one kind of window came to, each made of nothing but the hours before its origin."""
    whole, others = (_hours(shape, leaving_out) for leaving_out in (None, 0))
    sums = [0, *accumulate(whole)]
    others_sums = [0, *accumulate(others)]
    for origin in range(_FIRST_DAY * 24, DAYS * 24, every):
        now = _BEGIN + origin * _HOUR
        window = window_of(period, "UTC", now)
        assert window.end is not None  # noqa: S101 - these periods have ends
        start, end = ((at - _BEGIN) // _HOUR for at in (window.start, window.end))
        if start < 0 or end > DAYS * 24:
            continue
        made = forecast(Spending(_array(whole[:origin]), now, "UTC"), window)
        made_of_others = forecast(Spending(_array(others[:origin]), now, "UTC"), window)
        if made is None or made_of_others is None:
            continue
        spent, came_to = sums[origin] - sums[start], sums[end] - sums[start]
        over = (origin - start) / (end - start)
        kept = made_of_others.path.between(now, window.end, CONFIDENCE)
        # A limit that is nine tenths of what such a window has come to on average until now.
        left = int(0.9 * sums[origin] / origin * (end - start)) - spent
        yield Outcome(
            error=abs(spent + made.path.between(now, window.end) - came_to) / came_to,
            # Before a twentieth of the window is over there is no straight line, as in policy/run_rate.py.
            run_rate_error=abs(spent / over - came_to) / came_to if over >= 1 / 20 else None,
            exhausted=_has_exhaustion(made.path, left, sums, origin, end) if left > 0 else None,
            planned=others_sums[end] - others_sums[origin] <= kept,
        )


def _has_exhaustion(path: Path, left: int, sums: list[int], origin: int, end: int) -> bool:
    """Whether the band has the hour in which *left* is used up, or says that it may last, if it does."""
    now, until = (_BEGIN + hour * _HOUR for hour in (origin, end))
    earliest, latest = (path.reaches(left, now, until, level) for level in (HIGH, LOW))
    hour = bisect_left(sums, sums[origin] + left, lo=origin, hi=end + 1)
    if hour > end:
        return latest is None
    # The sums are by hours: it was used up at some moment of the one before *hour*.
    actual = _BEGIN + hour * _HOUR
    return earliest is not None and earliest <= actual and (latest is None or actual - _HOUR <= latest)


@cache
def _hours(shape: str, leaving_out: int | None) -> tuple[int, ...]:
    """Nanos per hour, of all four components or all but one."""
    hours = [0] * (DAYS * 24)
    for hour, component, nanos in _calls(shape):
        if component != leaving_out:
            hours[hour] += nanos
    return tuple(hours)


def _calls(shape: str) -> Iterator[tuple[int, int, int]]:
    for number, (kind, rates) in enumerate(_RATES.items()):
        with (TRACES / f"AzureLLMInferenceTrace_{kind}.csv").open(encoding="utf-8") as file:
            rows = [*csv.DictReader(file)]
        times = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in rows]
        length = (times[-1] - times[0]) * 1.0001
        for index, row in enumerate(rows):
            share = (times[index] - times[0]) / length
            hour = {
                "even": int(index / len(rows) * DAYS * 24),
                "stretched": int(share * DAYS * 24),
                "daily": index % DAYS * 24 + int(share * 24),
            }[shape]
            # Which of the two models of a trace: by turns, in the daily shape by turns of whole rounds of days.
            turn = (index // DAYS if shape == "daily" else index) % 2
            into, out = rates[turn]
            yield hour, 2 * number + turn, int(row["ContextTokens"]) * into + int(row["GeneratedTokens"]) * out


def _array(hours: tuple[int, ...]) -> NDArray[np.float64]:
    import numpy as np  # noqa: PLC0415 - only this benchmark needs it

    return np.array(hours, dtype=np.float64)
