"""When a report that comes again and again is due, and which span it is about."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from budget_bus.policy.windows import Period, window_of


def next_due(every: Period, at: time, timezone: str, after: datetime) -> datetime:
    """
    The first instant behind *after* (aware) that is *at* by the zone's clock: of any day, of a Monday, or of the first
    day of a month. A time that the clocks skip is taken as if they had not; one that comes twice is the first.
    """
    window = window_of(every, timezone, after)
    while True:
        day = window.start.astimezone(ZoneInfo(timezone)).date()
        due = datetime.combine(day, at, ZoneInfo(timezone)).astimezone(UTC)
        if due > after:
            return due
        assert window.end is not None  # noqa: S101 - no report is due once
        window = window_of(every, timezone, window.end)


def span_before(every: Period, timezone: str, due: datetime) -> tuple[datetime, datetime]:
    """The whole day, week or month before the one in which a report is *due*."""
    end = window_of(every, timezone, due).start
    return window_of(every, timezone, end - timedelta(microseconds=1)).start, end
