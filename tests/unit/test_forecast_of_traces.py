"""Forecasts of the real traces, scaled to 90 days: better than the straight line, and as honest as they say."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean
from typing import Any

import pytest

from bench.forecast import PERIODS, SHAPES, Outcome, lacking, outcomes
from budget_bus.insight import forecast as forecasts
from budget_bus.policy.windows import Period

WHY = lacking()
pytestmark = pytest.mark.skipif(WHY is not None, reason=WHY or "")


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, Period], list[Outcome]]:
    """An origin every 61 hours, of windows of each length; the benchmark takes more."""
    return {(shape, period): [*outcomes(shape, period, 61)] for shape in SHAPES for period in PERIODS}


def every(found: dict[tuple[str, Period], list[Outcome]]) -> list[Outcome]:
    return [one for outcomes in found.values() for one in outcomes]


def off(found: list[Outcome]) -> tuple[float, float]:
    """By how much forecasts were off where there was a straight line, and by how much that was."""
    both = [one for one in found if one.run_rate_error is not None]
    assert len(both) >= 15
    return mean(one.error for one in both), mean(one.run_rate_error or 0.0 for one in both)


@pytest.mark.parametrize(
    ("shape", "share"),
    [
        pytest.param("even", 0.9, id="noise about a level"),
        pytest.param("stretched", 0.95, id="bursts without a rhythm"),
        pytest.param("daily", 0.5, id="a day's rhythm, which is known: by far"),
    ],
)
def test_the_error_is_smaller_than_that_of_the_straight_line(
    found: dict[tuple[str, Period], list[Outcome]], shape: str, share: float
) -> None:
    ours, line = off([one for period in PERIODS for one in found[shape, period]])
    assert ours < share * line


WAYS = forecasts._ways


def without_the_rolling_rate(*args: Any) -> Iterator[tuple[str, Any, Any]]:
    return (way for way in WAYS(*args) if way[0] != forecasts.ROLLING_RATE)


def the_best_alone(tested: dict[str, Any], _: Any) -> dict[str, float]:
    return {min(tested, key=lambda name: tested[name].percent): 1.0}


@pytest.mark.parametrize(
    ("shape", "part", "instead"),
    [
        pytest.param("stretched", "_ways", without_the_rolling_rate, id="bursts, without the rolling rate"),
        pytest.param("even", "weights", the_best_alone, id="noise, by the one that was off least"),
    ],
)
def test_without_either_half_of_the_method_it_is_further_off(
    found: dict[tuple[str, Period], list[Outcome]], shape: str, part: str, instead: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_it, line = off(found[shape, Period.WEEKLY])
    monkeypatch.setattr(forecasts, part, instead)
    without_it, _ = off([*outcomes(shape, Period.WEEKLY, 61)])
    assert with_it < 0.95 * without_it
    assert with_it < 0.9 * line


def test_it_runs_out_within_the_band_in_eight_of_ten_and_more(found: dict[tuple[str, Period], list[Outcome]]) -> None:
    told = [one.exhausted for one in every(found) if one.exhausted is not None]
    assert len(told) >= 50
    assert mean(told) >= 0.8


def test_others_spend_no_more_than_a_plan_keeps_for_them_about_as_often_as_it_says(
    found: dict[tuple[str, Period], list[Outcome]],
) -> None:
    assert mean(one.planned for one in every(found)) >= 0.85
