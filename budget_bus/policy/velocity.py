"""Is more spent than is usual at this time of the week: a band learned from the past, robust against its bursts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from statistics import median, quantiles
from typing import NamedTuple

BUCKET = timedelta(minutes=15)  # what is compared: any 15 minutes with whole ones of the past
MIN_HISTORY = timedelta(days=1)
_WEEKS_NEEDED = 2  # before that, all times of the week are taken for alike
_WEEK = timedelta(days=7)
_NEAR = 4  # buckets before and after the one of the same time of the week
_SIGMAS = 6.0
_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_BEYOND = 1.5  # times the most that was usual


class Band(NamedTuple):
    """What 15 minutes usually cost and what they cost at most while nothing is wrong, in nanos."""

    usual: int
    high: int


def learn_band(
    history: Mapping[datetime, int], at: datetime, *, floor: int, ignored: Collection[datetime] = ()
) -> Band | None:
    """
    The band for the 15 minutes around *at*, from what each earlier bucket cost; None with less than a day of history.

    A bucket that is missing cost nothing. *ignored* are those in which something was wrong. `high` is the highest of
    *floor*, six robust standard deviations above the median of the same time of other weeks, half more than the most
    of these, and half more than what 95 % of all buckets stay below.
    """
    if not history:
        return None
    here = bucket_of(at)
    first = min(history)
    if here - first < MIN_HISTORY:
        return None
    count = (here - first) // BUCKET
    places = [first + n * BUCKET for n in range(count)]
    everything = [history.get(place, 0) for place in places if place not in ignored]
    same = _same_time(history, here, first, ignored) if here - first >= _WEEKS_NEEDED * _WEEK else everything
    if len(same) < 2 or len(everything) < 2:
        return None
    usual = median(same)
    sigma = _MAD_TO_SIGMA * median(abs(cost - usual) for cost in same)
    busy = quantiles(everything, n=20, method="inclusive")[-1]
    high = max(float(floor), usual + _SIGMAS * sigma, _BEYOND * max(same), _BEYOND * busy)
    return Band(round(usual), round(high))


def bucket_of(at: datetime) -> datetime:
    """The start of the bucket that *at* lies in."""
    return at - timedelta(seconds=at.timestamp() % BUCKET.total_seconds())


def _same_time(
    history: Mapping[datetime, int], here: datetime, first: datetime, ignored: Collection[datetime]
) -> list[int]:
    found, week = [], here - _WEEK
    while week >= first:
        near = (week + n * BUCKET for n in range(-_NEAR, _NEAR + 1))
        found += [history.get(place, 0) for place in near if place >= first and place not in ignored]
        week -= _WEEK
    return found
