"""What is still to be spent by when, with its quantiles: a forecast as it is stored, read at any later moment."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

# Of the amount spent by a moment: in this share of the back-tests it was at most the stored quantile.
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99)
LOW, HIGH = 0.05, 0.95  # the ends of the band that is shown: nine of ten lie inside

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Path:
    """
    From `start`, a whole hour, on: after `hours[i]` hours `expected[i]` more is spent, in the budget's smallest unit.

    `quantiles` gives by level of LEVELS how far that lies from `expected`. `origins` counts the back-tests behind it.
    """

    start: datetime
    hours: Sequence[int]
    expected: Sequence[int]
    quantiles: Sequence[Sequence[int]]
    origins: int = field(default=0)

    def between(self, since: datetime, until: datetime, level: float | None = None) -> int:
        """
        What is spent in `[since, until)`: expected, or the quantile of *level* at least, by the error of as long a way.
        """
        way = self._at(self.expected, until) - self._at(self.expected, since)
        if level is not None:
            index = next((i for i, stored in enumerate(LEVELS) if stored >= level - 1e-9), len(LEVELS) - 1)
            way += self._at(self.quantiles[index], self.start + (until - since))
        return max(0, round(way))

    def reaches(self, amount: int, since: datetime, end: datetime, level: float | None = None) -> datetime | None:
        """When *amount* more than at *since* is spent, to the minute; None if not before *end*."""
        if amount <= 0:
            return since
        low = since
        stops = (self.start + hours * _HOUR for hours in self.hours)
        for high in (*(stop for stop in stops if since < stop < end), end):
            if self.between(since, high, level) >= amount:
                return self._halving(amount, since, low, high, level)
            low = high
        return None

    def _halving(self, amount: int, since: datetime, low: datetime, high: datetime, level: float | None) -> datetime:
        while high - low > timedelta(minutes=1):
            middle = low + (high - low) / 2
            if self.between(since, middle, level) >= amount:
                high = middle
            else:
                low = middle
        return high

    @property
    def end(self) -> datetime:
        """The last moment that is forecast; after it things go on as they did on the whole."""
        return self.start + self.hours[-1] * _HOUR

    def _at(self, values: Sequence[int], moment: datetime) -> float:
        """*values* at *moment*: between two hours by a straight line, after the last one at the mean rate until it."""
        hours = max(0.0, (moment - self.start) / _HOUR)
        if hours > self.hours[-1]:
            return values[-1] * hours / self.hours[-1]
        index = bisect_left(self.hours, hours)
        before, value_before = (self.hours[index - 1], values[index - 1]) if index else (0, 0)
        return value_before + (values[index] - value_before) * (hours - before) / (self.hours[index] - before)

    def to_json(self) -> dict[str, Any]:
        """As it is stored; `from_json` reads it."""
        return {
            "start": self.start.isoformat(),
            "hours": list(self.hours),
            "expected": list(self.expected),
            "quantiles": [list(row) for row in self.quantiles],
            "origins": self.origins,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Path:
        """What `to_json` gave."""
        return cls(
            datetime.fromisoformat(raw["start"]), raw["hours"], raw["expected"], raw["quantiles"], raw["origins"]
        )
