"""Money: reading, writing and rounding exact amounts."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.errors import Rejected
from budget_bus.money import MAX_NANOS, check_currency, format_nanos, parse_amount, round_picos

nanos = st.integers(0, MAX_NANOS)


@given(nanos)
def test_an_amount_survives_being_written_and_read(amount: int) -> None:
    assert parse_amount(format_nanos(amount)) == amount


@given(nanos)
def test_an_amount_is_written_as_the_shortest_plain_decimal(amount: int) -> None:
    text = format_nanos(amount)
    assert Decimal(text) * 10**9 == amount
    assert "e" not in text.lower()
    assert "." not in text or text[-1] not in "0."


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        pytest.param(0, "0", id="zero has no point"),
        pytest.param(4_500_000, "0.0045", id="trailing zeros go"),
        pytest.param(10_000_000_000, "10", id="zeros before the point stay"),
        pytest.param(1, "0.000000001", id="one nano is written out"),
        pytest.param(-1_500_000_000, "-1.5", id="a correction may be negative"),
        pytest.param(-1, "-0.000000001", id="the sign survives a whole part of zero"),
        pytest.param(MAX_NANOS, "9223372036.854775807", id="the largest BIGINT"),
    ],
)
def test_format_nanos(amount: int, text: str) -> None:
    assert format_nanos(amount) == text


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        pytest.param("12.50", 12_500_000_000, id="a plain decimal"),
        pytest.param("1e-9", 1, id="an exponent"),
        pytest.param(7, 7_000_000_000, id="an integer"),
        pytest.param(Decimal("0.1"), 100_000_000, id="a Decimal"),
        pytest.param("-0", 0, id="minus zero is zero"),
        pytest.param("5." + "0" * 60, 5_000_000_000, id="zeros beyond nine decimals say nothing"),
    ],
)
def test_parse_amount(text: str | int | Decimal, amount: int) -> None:
    assert parse_amount(text) == amount


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "not a decimal", id="empty"),
        pytest.param("1,50", "not a decimal", id="a comma"),
        pytest.param("$5", "not a decimal", id="a currency sign"),
        pytest.param("x" * 10_000, r"xxx\.\.\. is not", id="a long text is not echoed whole"),
        pytest.param("NaN", "not a finite", id="not a number"),
        pytest.param("sNaN", "not a finite", id="a signalling one"),
        pytest.param("-Infinity", "not a finite", id="infinity"),
        pytest.param("-0.01", "negative", id="negative"),
        pytest.param("0.0000000001", "more than 9 decimals", id="a tenth of a nano"),
        pytest.param("5." + "0" * 33 + "1", "more than 9 decimals", id="finer than the default context can see"),
        pytest.param("1e-1100000", "more than 9 decimals", id="so small that the default context makes it zero"),
        pytest.param("9223372036.854775808", "at most", id="one nano above BIGINT"),
        pytest.param("1e999999", "at most", id="so large that the default context overflows"),
        pytest.param(10**5000, "at most", id="an integer of 5,000 digits"),
    ],
)
def test_a_bad_amount_is_rejected_with_its_field(text: str | int, why: str) -> None:
    with pytest.raises(Rejected, match=why) as rejected:
        parse_amount(text, field="limit")
    assert rejected.value.errors[0].field == "limit"
    assert len(str(rejected.value)) < 200


@given(st.integers(-(10**30), 10**30))
def test_picos_are_rounded_to_the_nearest_nano_and_ties_to_even(picos: int) -> None:
    assert round_picos(picos) == round(Fraction(picos, 1000))


@given(st.integers(0, 10**20), st.integers(0, 10**20))
def test_rounding_keeps_the_order(one: int, other: int) -> None:
    assert (one <= other) <= (round_picos(one) <= round_picos(other))


def test_a_currency_is_three_capital_letters() -> None:
    assert check_currency("EUR") == "EUR"
    for bad in ("eur", "EURO", "", "E1R", "EUR\n"):
        with pytest.raises(Rejected, match="ISO 4217"):
            check_currency(bad)
