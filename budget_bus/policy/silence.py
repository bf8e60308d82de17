"""Has a component gone silent that is steady at this time of the week."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from budget_bus.policy.velocity import BUCKET, bucket_of

MIN_HISTORY = timedelta(days=14)  # with less, a weekend cannot be told from silence
_WEEK = timedelta(days=7)
_STEADY_PERCENT = 90  # of the weeks in which a quarter of an hour must have had calls to be expected to have some
_SHORTEST_GAP = 4  # buckets that must have been missed at least


class Silence(NamedTuple):
    """Since when nothing was heard, in how many quarters of an hour that had been expected, and how many calls."""

    since: datetime
    missed: int
    usual_gap: int
    calls: int


def find_silence(calls: Mapping[datetime, int], now: datetime) -> Silence | None:
    """
    The silence that lasts at *now*, if it is longer than usual; *calls* are those of each bucket that had any.

    Only buckets count in which the component has had calls in at least 90 % of the weeks before: nights, weekends and
    rests are none. The silence must have missed more than twice as many of these in a row as ever before, and an hour.
    """
    if not calls:
        return None
    first, last, here = min(calls), max(calls), bucket_of(now)
    if here - first < MIN_HISTORY or here - last <= _SHORTEST_GAP * BUCKET:
        return None
    missed = _expected(calls, first, last + BUCKET, here)
    if len(missed) < _SHORTEST_GAP:
        return None
    gap = _longest_gap(calls, first, last)
    if len(missed) <= 2 * gap:
        return None
    usual = sum(calls.get(place - _WEEK, 0) for place in missed)
    return Silence(last + BUCKET, len(missed), gap, usual)


def _expected(calls: Collection[datetime], first: datetime, start: datetime, end: datetime) -> list[datetime]:
    """The buckets of `[start, end)` that were steady in the weeks before."""
    found, place = [], start
    while place < end:
        weeks = (place - first) // _WEEK
        hits = sum(1 for n in range(1, weeks + 1) if place - n * _WEEK in calls)
        if weeks >= 2 and 100 * hits >= _STEADY_PERCENT * weeks:
            found.append(place)
        place += BUCKET
    return found


def _longest_gap(calls: Collection[datetime], first: datetime, last: datetime) -> int:
    """The most expected buckets in a row that were missed before."""
    longest = running = 0
    for place in _expected(calls, first, first + 2 * _WEEK, last):
        running = 0 if place in calls else running + 1
        longest = max(longest, running)
    return longest
