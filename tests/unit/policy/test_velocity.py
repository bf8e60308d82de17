"""The learned band: what it knows of the time of the week, and that a burst of the past does not widen it for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_bus.policy.velocity import BUCKET, Band, bucket_of, learn_band

NOW = datetime(2026, 11, 30, 12, 7, 30, tzinfo=UTC)
HERE = datetime(2026, 11, 30, 12, tzinfo=UTC)
FLOOR = 10


def past(days: int, *, at_noon: int = 100, else_: int = 100) -> dict[datetime, int]:
    """Buckets of the last *days*; noon is an hour to each side of twelve."""
    found = {}
    for n in range(1, days * 96 + 1):
        place = HERE - n * BUCKET
        found[place] = at_noon if 11 <= place.hour < 13 else else_
    return found


@pytest.mark.parametrize("days", [0, 1])
def test_with_less_than_a_day_nothing_was_learnt(days: int) -> None:
    history = dict(list(past(days).items())[:-1])
    assert learn_band(history, NOW, floor=FLOOR) is None


def test_a_steady_component_may_cost_half_more() -> None:
    assert learn_band(past(2), NOW, floor=FLOOR) == Band(100, 150)


def test_what_is_small_is_within_the_band_however_unusual() -> None:
    assert learn_band(past(2), NOW, floor=5_000) == Band(100, 5_000)


def test_after_two_weeks_each_time_of_the_week_has_its_own_band() -> None:
    history = past(21, at_noon=1000, else_=10)
    assert learn_band(history, NOW, floor=FLOOR) == Band(1000, 1500)
    assert learn_band(history, NOW.replace(hour=3), floor=FLOOR) == Band(10, 15)
    young = learn_band(past(13, at_noon=1000, else_=10), NOW.replace(hour=3), floor=FLOOR)
    assert young == Band(10, 1500), "before, noon may be at any time"


def test_buckets_without_anything_cost_nothing() -> None:
    history = {HERE - timedelta(days=3): 100, HERE - BUCKET: 100}
    assert learn_band(history, NOW, floor=FLOOR) == Band(0, FLOOR)


def test_what_was_wrong_before_is_not_learnt() -> None:
    history = past(21)
    burst = HERE - timedelta(days=7)
    history[burst] = 100_000
    wide, narrow = (learn_band(history, NOW, floor=FLOOR, ignored=ignored) for ignored in ((), {burst}))
    assert wide == Band(100, 150_000)
    assert narrow == Band(100, 150)


@settings(max_examples=10)
@given(st.lists(st.integers(0, 10**12), min_size=96 * 15, max_size=96 * 15))
def test_what_never_passed_what_was_there_at_this_time_is_within_the_band(costs: list[int]) -> None:
    history = {HERE - (n + 1) * BUCKET: cost for n, cost in enumerate(costs)}
    band = learn_band(history, NOW, floor=FLOOR)
    assert band is not None
    assert band.high >= max(costs[96 * 7 - 1], band.usual, FLOOR)


def test_buckets_are_those_of_the_rollups() -> None:
    assert bucket_of(NOW) == HERE
    assert bucket_of(HERE) == HERE
