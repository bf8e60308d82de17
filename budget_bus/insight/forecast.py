"""One budget's hours -> what its window will come to, with a band, and how wrong such forecasts have been."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from budget_bus.insight.backtest import (
    LEAST_ORIGINS,
    Ahead,
    Backtest,
    Span,
    grid,
    mean_ahead,
    origins,
    rolling_rate_ahead,
    run_backtest,
    run_rate_ahead,
    scale,
    weights,
)
from budget_bus.insight.path import LEVELS, Path
from budget_bus.insight.seasonal import DAY, WEEK, least_hours, smooth
from budget_bus.policy.run_rate import LEAST_SHARE
from budget_bus.policy.windows import Window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hours = NDArray[np.float64]

# ruff: noqa: PLC0415 - numpy and statsmodels are heavy, and only whoever makes a forecast needs them.

RUN_RATE = "run_rate"
ROLLING_RATE = "rolling_rate"
COMBINED = "combined"  # the weighted mean of several of the others
_METHODS = {DAY: "ets_daily", WEEK: "ets_weekly"}
_REACH = 31 * 24  # hours ahead, for plans; further if the window ends later
_HOUR = timedelta(hours=1)


class Spending(NamedTuple):
    """Amounts per hour of a time zone's clock, from the first hour with any on to *end*, which is excluded."""

    hours: Hours
    end: datetime
    timezone: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """
    What is to come, by the method that had the smallest error in the back-tests, or by the mean of all that were about
    as good (`combined`).

    `error_percent` is the mean absolute percentage error of the window's amount in these, and `run_rate_percent` that
    of the straight line from the same origins; None for a window without an end, and where there was no line.
    """

    method: str
    path: Path
    error_percent: float | None
    run_rate_percent: float | None


def forecast(spending: Spending, window: Window) -> Forecast | None:
    """
    Forecast *window* from the end of what is known; None while too little is to know how wrong that would be.

    The same input gives the same forecast.
    """
    hours, length = spending.hours, len(spending.hours)
    endless = window.end is None
    remaining = _REACH if window.end is None else -((spending.end - window.end) // _HOUR)
    if endless:
        # As far as the history can tell.
        remaining = min(_REACH, length // 3)
    elapsed = 0 if endless else max(0, (spending.end - window.start) // _HOUR)
    if length < least_hours(DAY) + LEAST_ORIGINS or remaining < 1:
        return None
    span = Span(elapsed, remaining)
    reach = max(_REACH, remaining)
    first = max(least_hours(DAY), length // 3)
    at = origins(length, first, span)
    if len(at) < LEAST_ORIGINS:
        return None
    ways = {name: (past, now) for name, past, now in _ways(hours, span, at)}
    tested = {name: run_backtest(hours, past, at, span, reach) for name, (past, _) in ways.items()}
    parts = weights(tested, span)
    method, *more = parts
    test, (_, ahead) = tested[method], ways[method]
    if more:
        method = COMBINED
        pasts, nows = zip(*(ways[name] for name in parts), strict=True)
        past, ahead = (mean_ahead(aheads, [*parts.values()]) for aheads in (pasts, nows))
        test = run_backtest(hours, past, at, span, reach)
    naive = tested[RUN_RATE].percent if RUN_RATE in tested else None
    path = _path(spending, ahead, test, sorted(grid(remaining, reach)), len(at))
    return Forecast(method, path, None if endless else test.percent, None if endless else naive)


def _ways(hours: Hours, span: Span, at: range) -> Iterator[tuple[str, Ahead, Ahead]]:
    """Method, how it would have forecast from past hours with what was known then, and how it does now."""
    for period, method in _METHODS.items():
        if at[0] >= least_hours(period):
            past, now = (smooth(hours, period, fit_on=fit_on) for fit_on in (at[0], len(hours)))
            yield method, past.ahead, now.ahead
    rolling = rolling_rate_ahead(hours, span.elapsed + span.remaining)
    yield ROLLING_RATE, rolling, rolling
    if span.elapsed and span.elapsed >= LEAST_SHARE * (span.elapsed + span.remaining):
        line = run_rate_ahead(hours, span.elapsed)
        yield RUN_RATE, line, line


def _path(spending: Spending, ahead: Ahead, test: Backtest, stops: list[int], count: int) -> Path:
    import numpy as np

    length, unit = len(spending.hours), scale(ahead, spending.hours)
    clock = _clock_hours(spending, stops[-1])
    sums = np.concatenate([[0.0], ahead(length, clock[-1])])
    # The hours of the clock that repeat when it is set back are had twice, those that it skips not at all.
    each = np.array([sums[hour] - sums[hour - 1] for hour in clock])
    expected = np.cumsum(each)
    errors = np.array([test.quantiles(stop, LEVELS) * unit * stop for stop in stops])
    totals = np.array([expected[stop - 1] for stop in stops])
    # More time never means less spent; and nothing is ever given back.
    bounds = np.maximum.accumulate(np.maximum(totals[:, None] + errors, 0.0), axis=0)
    # Rounded before they are subtracted, so that what never becomes less does not become less by one.
    whole = np.rint(totals).astype(np.int64)
    apart = np.rint(bounds).astype(np.int64) - whole[:, None]
    return Path(spending.end, stops, whole.tolist(), apart.T.tolist(), count)


def _clock_hours(spending: Spending, count: int) -> list[int]:
    """Of the next *count* hours, which hour of the zone's clock after the last known one each is; 1 is the first."""
    zone = ZoneInfo(spending.timezone)
    last = (spending.end - _HOUR).astimezone(zone).replace(tzinfo=None)
    instants = (spending.end + n * _HOUR for n in range(count))
    return [max(1, round((at.astimezone(zone).replace(tzinfo=None) - last) / _HOUR)) for at in instants]


def nothing(start: datetime) -> Forecast:
    """Of those who have never spent anything: nothing, without a back-test."""
    return Forecast("none", Path(start, [_REACH], [0], [[0] for _ in LEVELS]), None, None)


def spending_of(amounts: dict[datetime, int], end: datetime, timezone: str) -> Spending | None:
    """
    Amounts by the instant that an hour of the zone's clock begins at, up to *end* -> a gapless series of clock hours.

    Hours without an amount were quiet. When the clock is set back an hour is there twice: it counts as their mean. One
    that is skipped is as the one before.
    """
    import numpy as np

    zone = ZoneInfo(timezone)
    known = {at: amount for at, amount in amounts.items() if at < end}
    if not known:
        return None
    first = min(known)
    begin = first.astimezone(zone).replace(tzinfo=None)
    count = round(((end - _HOUR).astimezone(zone).replace(tzinfo=None) - begin) / _HOUR) + 1
    if count < 1:
        return None
    sums, times = np.zeros(count), np.zeros(count)
    at = first
    while at < end:
        hour = min(count - 1, max(0, round((at.astimezone(zone).replace(tzinfo=None) - begin) / _HOUR)))
        sums[hour] += known.get(at, 0)
        times[hour] += 1
        at += _HOUR
    means = sums / np.maximum(times, 1)
    for skipped in np.flatnonzero(times == 0):
        means[skipped] = means[skipped - 1]
    return Spending(means, end, timezone)


def whole_hour(now: datetime, timezone: str) -> datetime:
    """When the hour of the zone's clock that *now* is in began: what came before it is complete."""
    local = now.astimezone(ZoneInfo(timezone))
    return (local - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)).astimezone(
        UTC
    )
