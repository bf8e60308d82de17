"""Is more spent than is usual at this time of the week: a band learned from the past, robust against its bursts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
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
    *floor*, six robust standard deviations above the median, and half more than the most that there was, all of the
    same time of other weeks. With less than two weeks of history it is of all times, and half more than what 99 % of
    these stay below.
    """
    here = bucket_of(at)
    first = min(history, default=here)
    if here - first < MIN_HISTORY:
        return None
    weekly = here - first >= _WEEKS_NEEDED * _WEEK
    places = _same_time(here, first) if weekly else _places(first, here)
    costs = [history.get(place, 0) for place in places if place not in ignored]
    if len(costs) < 2:
        return None
    usual = median(costs)
    sigma = _MAD_TO_SIGMA * median(abs(cost - usual) for cost in costs)
    most = max(costs) if weekly else quantiles(costs, n=100, method="inclusive")[-1]
    return Band(round(usual), round(max(floor, usual + _SIGMAS * sigma, _BEYOND * most)))


def bucket_of(at: datetime) -> datetime:
    """The start of the bucket that *at* lies in."""
    return at - timedelta(seconds=at.timestamp() % BUCKET.total_seconds())


def _places(first: datetime, end: datetime) -> Iterator[datetime]:
    return (first + n * BUCKET for n in range((end - first) // BUCKET))


def _same_time(here: datetime, first: datetime) -> Iterator[datetime]:
    for weeks in range(1, (here - first) // _WEEK + 1):
        week = here - weeks * _WEEK
        yield from (place for n in range(-_NEAR, _NEAR + 1) if (place := week + n * BUCKET) >= first)
