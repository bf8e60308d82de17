"""Exchange: whose rate holds on which day, and one rounding."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.policy.exchange import NO_RATES, DatedRate, ExchangeRates, Quote, utc_day

DAY = date(2026, 3, 10)
EUR = ("EUR", DatedRate(date.min, 10**9, date(1999, 1, 1)))
USD = ("USD", DatedRate(date.min, 1_117_200_000, date(2026, 3, 9)))


def rates(per_usd: int, per_other: int) -> ExchangeRates:
    rows = [("USD", DatedRate(date.min, per_usd, DAY)), ("XYZ", DatedRate(date.min, per_other, DAY))]
    return ExchangeRates.of([EUR, *rows])


positive = st.integers(1, 10**14)


@given(st.integers(0, 10**16), positive, positive)
def test_a_converted_amount_is_the_exact_quotient_rounded_half_to_even(nanos: int, one: int, other: int) -> None:
    exact = Fraction(nanos * other, one)
    found = rates(one, other)
    assert found.convert(nanos, "USD", "XYZ", DAY) == round(exact)
    assert found.convert(nanos, "USD", "XYZ", DAY, up=True) == ceil(exact)


@given(st.integers(0, 10**16), st.integers(0, 10**16), positive, positive)
def test_a_bound_stays_a_bound_in_another_currency(cost: int, more: int, one: int, other: int) -> None:
    found = rates(one, other)
    bound, charged = found.convert(cost + more, "USD", "XYZ", DAY, up=True), found.convert(cost, "USD", "XYZ", DAY)
    assert bound is not None
    assert charged is not None
    assert bound >= charged


def test_a_rate_holds_from_its_day_until_the_next_one() -> None:
    later = ("USD", DatedRate(DAY, 2_000_000_000, date(2026, 3, 9)))
    found = ExchangeRates.of([later, EUR, USD])
    assert found.convert(1_117_200_000, "USD", "EUR", DAY - timedelta(days=1)) == 10**9
    assert found.convert(2_000_000_000, "USD", "EUR", DAY) == 10**9
    assert found.convert(2_000_000_000, "USD", "EUR", date.max) == 10**9


def test_the_oldest_rate_holds_for_all_days_before_it() -> None:
    assert ExchangeRates.of([EUR, USD]).convert(1_117_200_000, "USD", "EUR", date(1900, 1, 1)) == 10**9


def test_a_currency_is_itself_without_any_rate_and_nothing_else_is() -> None:
    assert NO_RATES.convert(7, "USD", "USD", DAY) == 7
    assert NO_RATES.convert(7, "USD", "EUR", DAY) is None
    assert ExchangeRates.of([EUR]).convert(7, "USD", "EUR", DAY) is None
    assert ExchangeRates.of([EUR]).quote("USD", "EUR", DAY) is None


def test_a_quote_has_the_older_date_of_the_two_and_the_euro_has_none() -> None:
    sek = ("SEK", DatedRate(date.min, 11_000_000_000, date(2026, 3, 1)))
    found = ExchangeRates.of([EUR, USD, sek])
    assert found.quote("USD", "SEK", DAY) == Quote(Fraction(11_000_000_000, 1_117_200_000), date(2026, 3, 1))
    euro = found.quote("USD", "EUR", DAY)
    assert euro is not None
    assert euro.published == date(2026, 3, 9)


@pytest.mark.parametrize(("days", "stale"), [(7, False), (8, True)])
def test_a_rate_is_stale_after_a_week(days: int, stale: bool) -> None:
    assert Quote(Fraction(1), DAY - timedelta(days=days)).is_stale(DAY) is stale


def test_the_day_is_the_one_in_utc() -> None:
    assert utc_day(datetime(2026, 3, 10, 23, 30, tzinfo=timezone(timedelta(hours=-1)))) == date(2026, 3, 11)
    assert utc_day(datetime(2026, 3, 10, 23, 30, tzinfo=UTC)) == date(2026, 3, 10)
