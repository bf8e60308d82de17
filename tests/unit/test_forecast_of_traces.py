"""Forecasts of the real traces, scaled to 90 days: better than the straight line, and as honest as they say."""

from __future__ import annotations

from statistics import mean

import pytest

from bench.forecast import PERIODS, Outcome, lacking, outcomes
from budget_bus.policy.windows import Period

WHY = lacking()
pytestmark = pytest.mark.skipif(WHY is not None, reason=WHY or "")


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, Period], list[Outcome]]:
    """An origin every 61 hours, of windows of each length; the benchmark takes more, and a shape without any rhythm."""
    return {(shape, period): [*outcomes(shape, period, 61)] for shape in ("even", "daily") for period in PERIODS}


def every(found: dict[tuple[str, Period], list[Outcome]]) -> list[Outcome]:
    return [one for outcomes in found.values() for one in outcomes]


def test_the_error_is_smaller_than_that_of_the_straight_line(found: dict[tuple[str, Period], list[Outcome]]) -> None:
    both = [one for one in every(found) if one.run_rate_error is not None]
    assert len(both) >= 50
    assert mean(one.error for one in both) < mean(one.run_rate_error or 0.0 for one in both)
    # With a day's rhythm to be known, by far.
    daily = [one for one in found["daily", Period.DAILY] if one.run_rate_error is not None]
    assert mean(one.error for one in daily) < 0.7 * mean(one.run_rate_error or 0.0 for one in daily)


def test_it_runs_out_within_the_band_in_eight_of_ten_and_more(found: dict[tuple[str, Period], list[Outcome]]) -> None:
    told = [one.exhausted for one in every(found) if one.exhausted is not None]
    assert len(told) >= 50
    assert mean(told) >= 0.8


def test_others_spend_no_more_than_a_plan_keeps_for_them_about_as_often_as_it_says(
    found: dict[tuple[str, Period], list[Outcome]],
) -> None:
    assert mean(one.planned for one in every(found)) >= 0.85
