"""Where a window ends up if it goes on as it has until now: a straight line, and it says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from budget_bus.policy.windows import Window

# Less of a window than this says nothing about the rest of it.
LEAST_SHARE = Fraction(1, 20)


@dataclass(frozen=True, slots=True)
class RunRate:
    """What will be spent at the window's end, in the budget's smallest unit, and when the limit is reached, if ever."""

    expected: int
    runs_out_at: datetime | None


def run_rate(window: Window, *, now: datetime, spent: int, committed: int, limit: int) -> RunRate | None:
    """
    Extend what was *spent* since the window's start to its end; None where that would say nothing: the window has no
    end, less than a twentieth of it is over, or it is over.

    `runs_out_at` is when *committed* reaches *limit* at that rate, and None if the window ends first.
    """
    if window.end is None or not window.start < now < window.end:
        return None
    elapsed, whole = now - window.start, window.end - window.start
    if elapsed < whole * float(LEAST_SHARE):
        return None
    expected = spent * (whole // timedelta(microseconds=1)) // (elapsed // timedelta(microseconds=1))
    return RunRate(expected, _end(window.end, now, elapsed, spent, limit - committed))


def _end(window_end: datetime, now: datetime, elapsed: timedelta, spent: int, left: int) -> datetime | None:
    if left <= 0:
        return now
    if spent <= 0:
        return None
    # In microseconds and integers; a limit that is far away lies beyond the calendar, but also beyond the window.
    after = left * (elapsed // timedelta(microseconds=1)) // spent
    return now + timedelta(microseconds=after) if after < (window_end - now) // timedelta(microseconds=1) else None
