"""Alerts of a forecast: one for a series that wobbles, none for a single outlier."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.policy.budget import Basis, Budget, LimitSpec, Unit
from budget_bus.policy.forecast_alerts import Watch, watch
from budget_bus.policy.scope import Scope
from budget_bus.policy.windows import Period

LIMIT = 1000


def budget(version: int = 1, *on: Basis) -> Budget:
    spec = LimitSpec(
        "b", Scope(), Period.DAILY, Unit.TOKENS, LIMIT, None, thresholds=(80, 100), alert_on=on or (Basis.FORECAST,)
    )
    return Budget(uuid.UUID(int=1), spec, version)


def told(series: list[tuple[int, int | None]], of: Budget | None = None, was: Watch | None = None) -> list[str]:
    """What is told of forecasts, given as expected and low."""
    watched, out = was or Watch(), []
    for expected, low in series:
        found, watched = watch(of or budget(), watched, expected=expected, low=low, limit=LIMIT)
        out += [f"{one.percent} {'up' if one.up else 'down'}" for one in found]
        assert all(one.basis is Basis.FORECAST for one in found)
    return out


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        pytest.param([700, 750, 790], [], id="below all the time"),
        pytest.param([850], [], id="a first forecast is not agreed to"),
        pytest.param([850, 860], ["80 up"], id="two in a row agree"),
        pytest.param([850, 500, 850, 500, 850, 500], [], id="outliers never agree"),
        pytest.param([850, 1200, 850, 1200], ["80 up"], id="they agree on the lower one"),
        pytest.param([790, 810, 805, 795, 803, 790, 812, 801, 799, 820] * 3, ["80 up"], id="a wobble is told once"),
        pytest.param([850, 860, 700, 860, 700, 860], ["80 up"], id="one that is clearly below does not recover it"),
        pytest.param([850, 860, 700, 700, 700], ["80 up", "80 down"], id="two in a row that are clearly below do"),
        pytest.param([850, 860, 770, 765, 770, 761], ["80 up"], id="a little below is not clearly below"),
        pytest.param([1100, 1100], ["80 up", "100 up"], id="both thresholds at once"),
        pytest.param([1100, 1100, 900, 900], ["80 up", "100 up", "100 down"], id="each recovers by itself"),
        pytest.param([0, 0, 0], [], id="nothing at all"),
    ],
)
def test_what_a_series_of_forecasts_tells(series: list[int], expected: list[str]) -> None:
    assert told([(amount, None) for amount in series]) == expected


def test_a_band_that_is_past_the_threshold_needs_no_second_forecast() -> None:
    assert told([(1300, 850)]) == ["80 up"]


def test_a_changed_limit_is_told_anew() -> None:
    _, was = watch(budget(), Watch(1, 80, 80, 80), expected=850, low=None, limit=LIMIT)
    assert told([(850, None)], budget(2), was) == []
    assert told([(850, None), (850, None)], budget(2), was) == ["80 up"]


def test_nothing_is_told_unless_it_was_asked_for() -> None:
    assert told([(2000, 2000), (2000, 2000)], budget(1, Basis.SPENT)) == []


@given(st.lists(st.integers(770, 830), max_size=40))
def test_a_wobble_about_a_threshold_is_told_at_most_once(series: list[int]) -> None:
    assert told([(amount, None) for amount in series]) in ([], ["80 up"])
