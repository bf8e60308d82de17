"""How far forecasts would have been off had they been made before: rolling origins over a series of hours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hours = NDArray[np.float64]

# ruff: noqa: PLC0415 - numpy is heavy, and only whoever makes a forecast needs it.

LEAST_ORIGINS = 10  # fewer errors say nothing of the next one
_APART = 20  # errors that do not overlap, from which on their own distribution is trusted
_ENOUGH = 30  # origins from which on they may lie a whole day apart
_STEPS = (24, 12, 6, 3, 1)

# After so many hours of the series: the sums of the next 1, 2, ... so many hours.
Ahead = Callable[[int, int], "Hours"]


@dataclass(frozen=True, slots=True)
class Span:
    """A window as seen from an hour in it: how many hours of it are over, and how many are to come."""

    elapsed: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Backtest:
    """
    The back-tests of one way to forecast. `errors[i][k]` is what came beyond the expected in the first k+1 hours after
    origin i, in shares of the mean hour that was expected then, for each of these; NaN where the series ends before.

    Origins lie `step` hours apart. `misses` are the absolute errors of the whole window's amount, in shares of it, by
    origin; those of windows that came to nothing are left out.
    """

    errors: Hours
    misses: Hours
    step: int

    @property
    def percent(self) -> float:
        """The mean absolute percentage error of the whole window's amount."""
        return 100 * float(self.misses.mean()) if len(self.misses) else 0.0

    def quantiles(self, hours: int, levels: tuple[float, ...]) -> Hours:
        """The errors that in each share of *levels* of the back-tests were not passed *hours* ahead."""
        import numpy as np

        column, ahead = np.full(0, np.nan), hours
        for ahead in range(min(hours, self.errors.shape[1]), 0, -1):
            # Further ahead than the series can tell, the shares of the furthest that it can tell of hold.
            column = self.errors[:, ahead - 1]
            column = np.sort(column[~np.isnan(column)])
            if len(column) >= LEAST_ORIGINS:
                break
        return _bounds(column, levels, apart=len(column) * self.step / ahead)


def origins(length: int, first: int, span: Span) -> range:
    """
    From which hours to forecast, that the window's end can be compared: at the present hour of the day if there are
    enough of these, else closer together. They begin at *first*, or where a window before them would fit.
    """
    last = length - span.remaining
    for step in _STEPS:
        offset = length % step
        begin = max(first, span.elapsed, 1)
        begin += (offset - begin) % step
        found = range(begin, last + 1, step)
        if len(found) >= _ENOUGH:
            return found
    return range(max(first, span.elapsed, 1), last + 1)


def run_backtest(hours: Hours, ahead: Ahead, at: range, span: Span, reach: int) -> Backtest:
    """Forecast from each origin *at*, and compare with what came in the window's rest and up to *reach* hours."""
    import numpy as np

    sums = np.concatenate([[0.0], np.cumsum(hours)])
    errors = np.full((len(at), reach), np.nan)
    misses = []
    for row, origin in enumerate(at):
        known = min(reach, len(hours) - origin)
        expected = ahead(origin, max(known, span.remaining))
        actual = sums[origin + 1 : origin + known + 1] - sums[origin]
        unit = _rate(ahead, origin, hours) * np.arange(1, known + 1)
        errors[row, :known] = (actual - expected[:known]) / unit
        spent = sums[origin] - sums[origin - span.elapsed]
        whole = spent + actual[span.remaining - 1]
        if whole:
            misses.append(abs(spent + expected[span.remaining - 1] - whole) / whole)
    return Backtest(errors, np.array(misses), at.step)


def weights(tested: Mapping[str, Backtest], span: Span) -> dict[str, float]:
    """
    What each way to forecast counts for in the mean of those that the back-tests, all from the same origins, cannot
    tell from the one that was off least. In all it is 1.

    Those are the ones whose error is larger by no more than one standard error of the difference (Breiman, Friedman,
    Olshen, Stone, "Classification and Regression Trees", 1984), where windows that overlap count as one. The smallest
    of a few errors is smallest by chance as well, so to take it alone would be to follow the noise. Each counts by the
    inverse of its error's square (Bates, Granger, "The Combination of Forecasts", 1969), so that of few windows, which
    tell hardly anything apart, what was far off counts for little.
    """
    best = min(tested.values(), key=lambda test: test.percent)
    count = len(best.misses)
    apart = max(1.0, min(count, count * best.step / span.remaining))

    def told_apart(test: Backtest) -> bool:
        further = test.misses - best.misses
        return bool(count and further.mean() > further.std() / apart**0.5)

    parts = {
        name: (best.percent / test.percent) ** 2 if test.percent else 1.0
        for name, test in tested.items()
        if not told_apart(test)
    }
    whole = sum(parts.values())
    return {name: part / whole for name, part in parts.items() if part}


def run_rate_ahead(hours: Hours, elapsed: int) -> Ahead:
    """The straight line: each hour brings the mean of the *elapsed* hours before the origin."""
    import numpy as np

    sums = np.concatenate([[0.0], np.cumsum(hours)])

    def ahead(origin: int, count: int) -> Hours:
        rate = (sums[origin] - sums[origin - elapsed]) / elapsed
        return np.asarray(rate * np.arange(1, count + 1))

    return ahead


def rolling_rate_ahead(hours: Hours, window: int) -> Ahead:
    """
    Each hour brings the mean of the *window* hours before the origin: the straight line of a whole window's length.

    It knows as much in a window's first hours as in its last, and does not take one burst for the rest of it.
    """
    import numpy as np

    sums = np.concatenate([[0.0], np.cumsum(hours)])

    def ahead(origin: int, count: int) -> Hours:
        known = min(origin, window)
        return np.asarray((sums[origin] - sums[origin - known]) / known * np.arange(1, count + 1))

    return ahead


def mean_ahead(ways: Sequence[Ahead], parts: Sequence[float]) -> Ahead:
    """The mean of some forecasts, of which each counts for its part of 1: their errors partly cancel."""
    import numpy as np

    return lambda origin, count: np.average([ahead(origin, count) for ahead in ways], axis=0, weights=parts)


def grid(end: int, reach: int) -> Iterator[int]:
    """The hours ahead that are stored: each of the first day, then fewer, with the window's *end* among them."""
    hours = {*range(1, 25), *range(24, 169, 6), *range(168, reach, 24), end, reach}
    return iter(sorted(hour for hour in hours if 0 < hour <= max(reach, end)))


def scale(ahead: Ahead, hours: Hours) -> float:
    """What errors of a forecast from the end of *hours* are shares of, for each hour."""
    return _rate(ahead, len(hours), hours)


def _rate(ahead: Ahead, origin: int, hours: Hours) -> float:
    # The mean hour of the coming day. It is never nothing: what was quiet lately may come back.
    return max(float(ahead(origin, 24)[-1]) / 24, float(hours[:origin].mean()) / 10, 1e-9)


def _bounds(ordered: Hours, levels: tuple[float, ...], *, apart: float) -> Hours:
    """
    The quantiles of *levels* of the next error, given past ones in order, of which as many as *apart* do not overlap.

    Errors of ways that overlap are nearly one error seen often. With few that do not, either side is as wide as the
    wider one, and as much wider as Student's t is for so few than the normal distribution.
    """
    import numpy as np
    from scipy.stats import norm, t

    found = np.array([_conformal(ordered, level) for level in levels])
    if apart >= _APART:
        return found
    sizes = np.sort(np.abs(ordered))
    out = []
    for level, quantile in zip(levels, found, strict=True):
        share = abs(2 * level - 1)
        wider = (
            1.0
            if not share
            else float(t.ppf(max(level, 1 - level), max(apart - 1, 1)) / norm.ppf(max(level, 1 - level)))
        )
        size = _conformal(sizes, share) * wider if share else 0.0
        out.append(max(quantile, size) if level > 0.5 else min(quantile, -size) if level < 0.5 else quantile)
    return np.array(out)


def _conformal(ordered: Hours, level: float) -> float:
    """
    The value that the next error does not pass with probability *level*, if it is as likely to take any place among
    the *ordered* ones: of n errors the (n + 1) * level-th, rounded away from the middle (split conformal prediction:
    Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005).
    """
    import math

    place = (len(ordered) + 1) * level
    index = math.ceil(place - 1e-9) - 1 if level >= 0.5 else math.floor(place + 1e-9) - 1
    return float(ordered[min(max(index, 0), len(ordered) - 1)])
