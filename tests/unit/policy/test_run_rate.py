"""A straight line through what was spent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.policy.run_rate import RunRate, run_rate
from budget_bus.policy.windows import Window

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = Window(START, START + timedelta(days=1))


def after(hours: float, *, spent: int = 100, limit: int = 1000, committed: int | None = None) -> RunRate | None:
    now = START + timedelta(hours=hours)
    return run_rate(DAY, now=now, spent=spent, committed=spent if committed is None else committed, limit=limit)


def test_what_was_spent_in_a_quarter_comes_four_times() -> None:
    assert after(6) == RunRate(400, None)


def test_a_limit_that_lies_on_the_way_is_reached_then() -> None:
    assert after(6, limit=200) == RunRate(400, START + timedelta(hours=12))


def test_what_is_held_brings_the_end_nearer() -> None:
    assert after(6, limit=200, committed=150) == RunRate(400, START + timedelta(hours=9))


def test_a_limit_that_is_passed_has_run_out_now() -> None:
    assert after(6, limit=50) == RunRate(400, START + timedelta(hours=6))


def test_nothing_spent_never_runs_out() -> None:
    assert after(6, spent=0) == RunRate(0, None)


@pytest.mark.parametrize("hours", [-1, 0, 1, 24, 30], ids=["before", "at its start", "too early", "at its end", "over"])
def test_nothing_is_said_where_nothing_can_be(hours: float) -> None:
    assert after(hours) is None


def test_a_window_without_an_end_has_no_outlook() -> None:
    now = START + timedelta(days=9)
    assert run_rate(Window(START, None), now=now, spent=1, committed=1, limit=9) is None


@given(
    spent=st.integers(0, 2**63 - 1),
    held=st.integers(0, 2**60),
    limit=st.integers(0, 2**63 - 1),
    seconds=st.integers(4320, 86_399),
)
def test_it_runs_out_within_the_window_exactly_if_the_line_passes_what_is_left(
    spent: int, held: int, limit: int, seconds: int
) -> None:
    now = START + timedelta(seconds=seconds)
    found = run_rate(DAY, now=now, spent=spent, committed=spent + held, limit=limit)
    assert found is not None
    assert found.expected >= spent
    if found.runs_out_at is not None:
        assert now <= found.runs_out_at < START + timedelta(days=1)
    more = found.expected - spent
    if more > limit - spent - held:
        assert found.runs_out_at is not None
