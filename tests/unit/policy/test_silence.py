"""Silence: of a component that is steady at this time of the week, longer than it ever was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from budget_bus.policy.silence import find_silence
from budget_bus.policy.velocity import BUCKET

NOW = datetime(2026, 11, 30, 12, 1, tzinfo=UTC)  # a Monday
HERE = datetime(2026, 11, 30, 12, tzinfo=UTC)


def heard(
    days: float, when: Callable[[datetime], bool] = lambda _: True, *, until: datetime = HERE
) -> dict[datetime, int]:
    """3 calls in each bucket of the *days* before now that `when` admits, and that lies before *until*."""
    places = (HERE - n * BUCKET for n in range(1, int(days * 96) + 1))
    return {place: 3 for place in places if when(place) and place < until}


def in_office(place: datetime) -> bool:
    return place.weekday() < 5 and 9 <= place.hour < 17


@pytest.mark.parametrize(
    ("silent_for", "found"),
    [
        pytest.param(timedelta(minutes=45), False, id="three quarters of an hour"),
        pytest.param(timedelta(minutes=60), True, id="an hour"),
        pytest.param(timedelta(days=1), True, id="a day"),
    ],
)
def test_a_component_that_is_always_there_is_missed_after_an_hour(silent_for: timedelta, found: bool) -> None:
    silence = find_silence(heard(21, until=HERE - silent_for), NOW)
    assert (silence is not None) is found
    if silence is not None:
        assert silence.since == HERE - silent_for
        assert (silence.missed, silence.calls) == (silent_for // BUCKET, 3 * (silent_for // BUCKET))


@pytest.mark.parametrize(
    ("now", "found"),
    [
        pytest.param(datetime(2026, 11, 30, 8, 59, tzinfo=UTC), False, id="Monday before work"),
        pytest.param(datetime(2026, 11, 29, 12, tzinfo=UTC), False, id="Sunday"),
        pytest.param(datetime(2026, 11, 30, 9, 45, tzinfo=UTC), False, id="Monday, not an hour after work began"),
        pytest.param(datetime(2026, 11, 30, 10, 15, tzinfo=UTC), True, id="Monday, more than an hour after"),
    ],
)
def test_nights_and_weekends_are_no_silence(now: datetime, found: bool) -> None:
    calls = heard(24, in_office, until=datetime(2026, 11, 28, tzinfo=UTC))
    assert (find_silence(calls, now) is not None) is found


def test_before_two_weeks_nobody_is_missed() -> None:
    assert find_silence(heard(13.9, until=HERE - timedelta(hours=5)), NOW) is None


def test_a_component_that_comes_and_goes_is_not_missed() -> None:
    calls = heard(28, lambda place: hash((place.day * 7 + place.hour) % 3) == 0, until=HERE - timedelta(hours=5))
    assert find_silence(calls, NOW) is None


def test_a_gap_that_was_there_before_must_be_passed_by_far() -> None:
    def but_once(place: datetime) -> bool:
        return not HERE - timedelta(days=3) <= place < HERE - timedelta(days=3) + timedelta(hours=2)

    assert find_silence(heard(28, but_once, until=HERE - timedelta(hours=4)), NOW) is None
    longer = find_silence(heard(28, but_once, until=HERE - timedelta(hours=5)), NOW)
    assert longer is not None
    assert (longer.missed, longer.usual_gap) == (20, 8)


def test_of_nobody_nothing_is_expected() -> None:
    assert find_silence({}, NOW) is None
