"""What a window will come to, and how honest the band is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from budget_bus.insight.backtest import (
    Backtest,
    Span,
    mean_ahead,
    origins,
    rolling_rate_ahead,
    run_backtest,
    run_rate_ahead,
    weights,
)
from budget_bus.insight.forecast import COMBINED, RUN_RATE, Forecast, forecast, spending_of, whole_hour
from budget_bus.insight.path import HIGH, LOW
from budget_bus.policy.windows import Period, window_of

HOUR = timedelta(hours=1)
END = datetime(2026, 3, 10, 6, tzinfo=UTC)


def office(at: datetime, zone: str = "UTC") -> int:
    """Nothing at night, 1,000 an hour from 9 to 17."""
    return 1000 if 9 <= at.astimezone(ZoneInfo(zone)).hour < 17 else 0


def made(
    amounts: dict[datetime, int], period: Period = Period.DAILY, *, end: datetime = END, zone: str = "UTC"
) -> Forecast | None:
    spending = spending_of(amounts, end, zone)
    return None if spending is None else forecast(spending, window_of(period, zone, end))


def office_days(days: int, *, end: datetime = END, zone: str = "UTC") -> dict[datetime, int]:
    return {end - n * HOUR: office(end - n * HOUR, zone) for n in range(1, 24 * days + 1)}


def test_a_morning_knows_of_the_day_that_is_to_come() -> None:
    found = made(office_days(30))
    assert found is not None
    assert found.path.between(END, END + 18 * HOUR) == pytest.approx(8000, abs=80)
    assert found.error_percent is not None
    assert found.run_rate_percent is not None
    # Before the office opens the straight line sees nothing coming.
    assert found.error_percent < 5
    assert found.run_rate_percent > 90


def test_the_same_history_gives_the_same_forecast() -> None:
    assert made(office_days(30)) == made(office_days(30))


@pytest.mark.parametrize("end", [datetime(2026, 3, 29, 3, tzinfo=UTC), datetime(2026, 10, 25, 4, tzinfo=UTC)])
def test_the_day_of_the_clock_change_keeps_its_office_hours(end: datetime) -> None:
    zone = "Europe/Berlin"
    found = made(office_days(30, end=end, zone=zone), end=end, zone=zone)
    assert found is not None
    opens = window_of(Period.DAILY, zone, end).start.astimezone(ZoneInfo(zone)).replace(hour=9)
    before, after = (opens.astimezone(UTC) + n * HOUR for n in (0, 8))
    assert found.path.between(end, before) == pytest.approx(0, abs=80)
    assert found.path.between(before, after) == pytest.approx(8000, abs=80)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_an_hour_of_any_clock_is_complete(zone: str) -> None:
    now = datetime(2026, 3, 10, 6, 44, 59, 3, tzinfo=UTC)
    begun = whole_hour(now, zone)
    assert begun.astimezone(ZoneInfo(zone)).minute == 0
    assert timedelta(0) <= now - begun < HOUR


@pytest.mark.parametrize("amount", [0, 7])
def test_what_never_varies_is_certain(amount: int) -> None:
    found = made({END - n * HOUR: amount for n in range(1, 24 * 20)})
    assert found is not None
    ends = [found.path.between(END, END + 18 * HOUR, level) for level in (LOW, None, HIGH)]
    assert ends == [18 * amount] * 3
    assert found.error_percent == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "amounts",
    [
        pytest.param({}, id="nothing was ever spent"),
        pytest.param(office_days(3), id="three days"),
        pytest.param({END: 5, END + HOUR: 5}, id="only in the hour that is not over"),
    ],
)
def test_too_little_history_says_nothing(amounts: dict[datetime, int]) -> None:
    assert made(amounts) is None


def test_days_without_anything_are_days() -> None:
    amounts = {at: amount for at, amount in office_days(40).items() if at.day % 5}
    found = made(amounts)
    assert found is not None
    assert found.path.between(END, END + 18 * HOUR, LOW) < 6500 < found.path.between(END, END + 18 * HOUR, HIGH)


@pytest.mark.parametrize("period", [Period.WEEKLY, Period.MONTHLY, Period.TOTAL])
def test_longer_windows_are_forecast_too(period: Period) -> None:
    found = made(office_days(80), period)
    assert found is not None
    assert found.path.between(END, END + 48 * HOUR) == pytest.approx(16_000, abs=400)
    assert (found.error_percent is None) == (period is Period.TOTAL)


def test_what_is_spent_never_becomes_less() -> None:
    rng = np.random.default_rng(3)
    found = made({END - n * HOUR: int(rng.pareto(1.2) * 100) for n in range(1, 24 * 60)}, Period.WEEKLY)
    assert found is not None
    path = found.path
    for row in (
        path.expected,
        *([e + q for e, q in zip(path.expected, level, strict=True)] for level in path.quantiles),
    ):
        assert all(a <= b for a, b in pairwise(row))
        assert row[0] >= 0
    for lower, higher in pairwise(path.quantiles):
        assert all(a <= b for a, b in zip(lower, higher, strict=True))


def test_nine_of_ten_ends_lie_within_the_band() -> None:
    rng, hits, count = np.random.default_rng(11), 0, 0
    series = {END - n * HOUR: int(office(END - n * HOUR) * rng.gamma(2, 0.5)) for n in range(1, 24 * 90)}
    for day in range(1, 21):
        end = END - day * 24 * HOUR
        found = made({at: amount for at, amount in series.items() if at < end}, end=end)
        assert found is not None
        actual = sum(amount for at, amount in series.items() if end <= at < end + 18 * HOUR)
        low, high = (found.path.between(end, end + 18 * HOUR, level) for level in (LOW, HIGH))
        hits, count = hits + (low <= actual <= high), count + 1
    assert hits / count >= 0.8


def test_with_few_errors_that_do_not_overlap_the_band_is_wider() -> None:
    # Month-long ways through three months: sixty origins, but hardly three errors that are not the same one.
    errors = np.linspace(0.0, 0.1, 60)[:, None] * np.ones((1, 720))
    crowded, apart = (Backtest(errors, np.zeros(60), step).quantiles(720, (LOW, HIGH)) for step in (24, 720))
    assert crowded[0] < 0 < apart[0] + 1e-2
    assert crowded[1] > apart[1]


def test_the_straight_line_is_one_of_the_ways() -> None:
    hours = np.arange(100.0)
    line = run_rate_ahead(hours, 10)
    assert line(50, 3).tolist() == pytest.approx([44.5, 89.0, 133.5])
    assert RUN_RATE == "run_rate"


def test_the_rolling_rate_reaches_back_over_a_whole_window_or_as_far_as_it_can() -> None:
    rolling = rolling_rate_ahead(np.arange(100.0), 20)
    assert rolling(50, 3).tolist() == pytest.approx([39.5, 79.0, 118.5])
    assert rolling(10, 2).tolist() == pytest.approx([4.5, 9.0])


@pytest.mark.parametrize(
    ("misses", "step", "parts"),
    [
        pytest.param({"a": [1, 3, 1, 3], "b": [2, 4, 2, 4]}, 24, {"a": 1}, id="always worse, so told apart"),
        pytest.param({"b": [2, 2, 2, 2], "a": [1, 3, 1, 3]}, 24, {"b": 0.5, "a": 0.5}, id="now better, now worse"),
        pytest.param({"a": [2, 2, 2, 2], "b": [1, 3, 3, 3]}, 24, {"a": 1}, id="mostly worse, in four windows"),
        pytest.param({"a": [2, 2], "b": [1, 7]}, 6, {"a": 0.8, "b": 0.2}, id="twice as far off, in hardly one window"),
        pytest.param({"a": [0, 0], "b": [0, 7]}, 6, {"a": 1}, id="never off at all"),
        pytest.param({"a": [], "b": []}, 24, {"a": 0.5, "b": 0.5}, id="nothing was ever spent"),
    ],
)
def test_what_each_way_counts_for(misses: dict[str, list[float]], step: int, parts: dict[str, float]) -> None:
    tested = {name: Backtest(np.zeros((2, 1)), np.array(each), step) for name, each in misses.items()}
    assert weights(tested, Span(0, 24)) == pytest.approx(parts)


def test_of_ways_that_are_about_as_good_it_is_the_mean() -> None:
    hours = np.random.default_rng(5).gamma(2, 500, 24 * 60)
    found = made({END - (n + 1) * HOUR: int(hours[-1 - n]) for n in range(len(hours))}, Period.WEEKLY)
    assert found is not None
    # Of noise without a rhythm no way knows more than the others.
    assert found.method == COMBINED
    mean = mean_ahead([lambda _, count: np.ones(count), lambda _, count: np.full(count, 4.0)], [0.75, 0.25])
    assert mean(9, 3).tolist() == [1.75] * 3


def test_a_week_that_is_known_is_not_given_away_to_ways_that_know_only_the_day() -> None:
    rng, end = np.random.default_rng(2), END - 7 * 24 * HOUR
    days = {at: int(amount * rng.gamma(4, 0.25)) + 1 for at, amount in office_days(89).items()}
    weeks = {at: amount if at.weekday() < 5 else 1 for at, amount in days.items() if at < end}
    found = made(weeks, Period.MONTHLY, end=end)
    assert found is not None
    assert found.error_percent is not None
    # Of months there is hardly one to tell the ways apart by; the plain mean of those that remain is off by 15 %.
    assert found.error_percent < 5


def test_back_tests_compare_with_what_came() -> None:
    hours = np.full(200, 2.0)
    tested = run_backtest(hours, lambda _, count: np.arange(1, count + 1) * 1.0, range(100, 150, 24), Span(10, 10), 40)
    # Expected is 10 of 20 for the rest, and 20 were spent before: 30 instead of 40.
    assert tested.percent == pytest.approx(25.0)
    assert np.nanmin(tested.errors) == np.nanmax(tested.errors) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("length", "remaining", "step"),
    [
        pytest.param(2160, 18, 24, id="at the same hour of the day when there are enough days"),
        pytest.param(400, 18, 6, id="closer together when there are not"),
        pytest.param(110, 18, 1, id="every hour when there are hardly any"),
    ],
)
def test_where_back_tests_begin(length: int, remaining: int, step: int) -> None:
    at = origins(length, 80 if length < 400 else length // 3, Span(6, remaining))
    assert at.step == step
    assert all(origin + remaining <= length for origin in at)
    assert (length - at[0]) % step == 0
