"""A stored forecast, read at a later moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.insight.path import HIGH, LEVELS, LOW, Path

START = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def path(spread: int = 10) -> Path:
    """100 an hour for ten hours; each level is off by its distance from the middle, growing with time."""
    hours = list(range(1, 11))
    quantiles = [[round((level - 0.5) * spread * hour) for hour in hours] for level in LEVELS]
    return Path(START, hours, [100 * hour for hour in hours], quantiles, 30)


def test_it_is_read_as_it_was_written() -> None:
    assert Path.from_json(path().to_json()) == path()


@pytest.mark.parametrize(
    ("since", "until", "level", "amount"),
    [
        pytest.param(0, 10, None, 1000, id="all of it"),
        pytest.param(2.5, 4, None, 150, id="a part of it, from between two hours"),
        pytest.param(0, 20, None, 2000, id="beyond what is stored: at the same rate"),
        pytest.param(-3, 1, None, 100, id="nothing is known of before"),
        pytest.param(0, 10, 0.95, 1045, id="the upper end"),
        pytest.param(6, 10, 0.95, 418, id="the upper end is as wide as the way is long"),
        pytest.param(0, 10, 0.93, 1045, id="a level between two takes the higher one"),
        pytest.param(4, 4, 0.95, 0, id="no time, nothing spent"),
    ],
)
def test_what_is_spent_between(since: float, until: float, level: float | None, amount: int) -> None:
    assert path().between(START + since * HOUR, START + until * HOUR, level) == amount


def test_it_runs_out_between_the_ends_of_the_band() -> None:
    expected, early, late = (path(40).reaches(500, START, START + 9 * HOUR, level) for level in (None, HIGH, LOW))
    assert early is not None
    assert late is not None
    assert expected is not None
    assert early < expected < late
    assert abs(expected - (START + 5 * HOUR)) <= timedelta(minutes=1)


@pytest.mark.parametrize(
    ("amount", "end", "expected"),
    [
        pytest.param(0, 9, 0, id="what is used up already has run out now"),
        pytest.param(-5, 9, 0, id="what is passed too"),
        pytest.param(901, 9, None, id="the window ends first"),
    ],
)
def test_when_it_runs_out_at_the_edges(amount: int, end: int, expected: int | None) -> None:
    found = path().reaches(amount, START, START + end * HOUR)
    assert found == (None if expected is None else START + expected * HOUR)


@given(st.integers(1, 2000), st.floats(0, 12), st.floats(0.1, 12), st.sampled_from((None, LOW, HIGH)))
def test_it_has_not_run_out_a_minute_before(amount: int, since: float, way: float, level: float | None) -> None:
    begin, end = START + since * HOUR, START + (since + way) * HOUR
    found = path(60).reaches(amount, begin, end, level)
    if found is None:
        assert path(60).between(begin, end, level) < amount
    else:
        assert path(60).between(begin, found, level) >= amount
        assert path(60).between(begin, found - timedelta(minutes=1, seconds=1), level) < amount
