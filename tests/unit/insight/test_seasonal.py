"""Exponential smoothing: what is known after an hour comes from that hour and those before it."""

from __future__ import annotations

import numpy as np
import pytest

from budget_bus.insight.seasonal import DAY, WEEK, smooth

HOURS = 60 * 24


def days(count: int = HOURS) -> np.ndarray:
    """A day's rhythm with noise, the same every time."""
    hours = np.arange(count)
    noise = np.random.default_rng(7).normal(0, 5, count)
    return np.maximum(100 + 60 * np.sin(hours / 24 * 2 * np.pi) + noise, 0)


@pytest.mark.parametrize("period", [DAY, WEEK])
def test_a_rhythm_is_continued_hour_by_hour(period: int) -> None:
    series = days()
    smoothed = smooth(series[:-48], period, fit_on=3 * WEEK)
    ahead = np.diff(smoothed.ahead(len(series) - 48, 48), prepend=0.0)
    assert np.abs(ahead - series[-48:]).mean() < 10


def test_a_forecast_of_the_past_knows_nothing_of_what_came_after() -> None:
    series, origin = days(), 900
    other = series.copy()
    other[origin:] *= 50
    known, guessed = (smooth(one, DAY, fit_on=500).ahead(origin, 72) for one in (series, other))
    assert np.allclose(known, guessed)
    # And with what came after it would have been another one.
    assert not np.allclose(smooth(other, DAY, fit_on=500).ahead(origin + 1, 72), known)


@pytest.mark.parametrize("amount", [0.0, 3.0])
def test_what_never_varies_goes_on(amount: float) -> None:
    smoothed = smooth(np.full(200, amount), DAY, fit_on=100)
    assert smoothed.ahead(200, 10).tolist() == pytest.approx([amount * hours for hours in range(1, 11)])
