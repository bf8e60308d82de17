"""
A budget's period -> the window `[start, end)` that an instant falls in.

Windows are derived from the event's own time in the budget's zone, never reset. Days, weeks and months begin at
local midnight; where the clocks skip midnight, at the moment they skip it; where midnight comes twice, at the first.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # where the one window of a `total` budget starts


class Period(StrEnum):
    """How long a budget's windows are."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    TOTAL = "total"
    PER_CONTEXT = "per_context"  # each context has a window of its own, from its first call on: it is not derivable


@dataclass(frozen=True, slots=True)
class Window:
    """
    `start` is included, `end` is not; both UTC. `end` None: the window never closes. `context_id` is '' except in a
    per_context budget, where it says whose window this is.
    """

    start: datetime
    end: datetime | None
    context_id: str = ""

    def holds(self, at: datetime) -> bool:
        """Whether *at* falls in this window."""
        return self.start <= at and (self.end is None or at < self.end)


def window_of(period: Period, timezone: str, at: datetime, *, week_start: int = 0, month_anchor: int = 1) -> Window:
    """
    The window that *at* (aware) falls in, of any period but per_context.

    *week_start* is 0 for Monday to 6 for Sunday. *month_anchor* 1 to 31 is the day a month begins on; a shorter
    month begins on its last day.
    """
    if period is Period.TOTAL:
        return Window(EPOCH, None)
    if period is Period.PER_CONTEXT:
        raise ValueError("a context's window begins with its first call; it is kept, not derived")
    zone = ZoneInfo(timezone)
    if period is Period.HOURLY:
        return _hour(zone, at)
    local_day = at.astimezone(zone).date()
    return _days(period, timezone, local_day, week_start, month_anchor)


def _hour(zone: ZoneInfo, at: datetime) -> Window:
    local = at.astimezone(zone)
    # Standard time, not the clock's: a zone whose summer time is 30 minutes would otherwise have hours that overlap.
    standard = (local.utcoffset() or timedelta()) - (local.dst() or timedelta())
    shifted = at.astimezone(UTC) + standard
    start = shifted.replace(minute=0, second=0, microsecond=0) - standard
    return Window(start, start + timedelta(hours=1))


@lru_cache(maxsize=4096)
def _days(period: Period, timezone: str, day: date, week_start: int, month_anchor: int) -> Window:
    if period is Period.DAILY:
        first, after = day, day + timedelta(days=1)
    elif period is Period.WEEKLY:
        first = day - timedelta(days=(day.weekday() - week_start) % 7)
        after = first + timedelta(days=7)
    else:
        first = _anchored(day.year, day.month, month_anchor)
        if first > day:
            first = _anchored(*_month_after(day.year, day.month, -1), month_anchor)
        after = _anchored(*_month_after(first.year, first.month, 1), month_anchor)
    return Window(_midnight(first, timezone), _midnight(after, timezone))


def _anchored(year: int, month: int, anchor: int) -> date:
    return date(year, month, min(anchor, calendar.monthrange(year, month)[1]))


def _month_after(year: int, month: int, step: int) -> tuple[int, int]:
    years, index = divmod(year * 12 + month - 1 + step, 12)
    return years, index + 1


def _midnight(day: date, timezone: str) -> datetime:
    # fold=0 takes the first of two midnights, and for a skipped one the offset before the gap: the moment of the skip.
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).astimezone(UTC)
