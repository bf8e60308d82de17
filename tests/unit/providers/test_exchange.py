"""The ECB's rates: what the wheel has, and what is not a table of them."""

from __future__ import annotations

from datetime import date

import pytest

from budget_bus.errors import Rejected
from budget_bus.providers.exchange import bundled, read_file

CSV = b"Date,USD,SEK,\n2026-11-20,1.1000,11.5,\n2026-11-19,1.2345,N/A,\n"


def test_the_wheel_has_the_rates_that_the_ecb_published() -> None:
    """1.1789 USD for a euro on the first day: ECB, euro foreign exchange reference rates, 4 January 1999."""
    found = bundled().publications("USD")
    assert found[0] == (date(1999, 1, 4), 1_178_900_000)
    assert len(found) > 7_000
    assert found == sorted(found)


def test_only_days_after_one_are_asked_for() -> None:
    assert bundled().publications("USD", after=date(2026, 10, 28))[0][0] == date(2026, 10, 29)


def test_a_currency_without_rates_is_refused_with_those_that_have_some() -> None:
    with pytest.raises(Rejected) as refused:
        bundled().publications("XAU")
    (error,) = refused.value.errors
    assert error.field == "currency"
    assert "CHF" in error.message


def test_the_ecbs_own_file_is_read() -> None:
    table = read_file(CSV, "a test")
    assert table.publications("USD") == [(date(2026, 11, 19), 1_234_500_000), (date(2026, 11, 20), 1_100_000_000)]
    assert table.publications("SEK") == [(date(2026, 11, 20), 11_500_000_000)]
    assert table.source == "a test"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"PK\x03\x04broken", id="a broken archive"),
        pytest.param(b"<html>not found</html>", id="a page"),
        pytest.param(b"Date,USD,\n2026-13-45,1.1,\n", id="no day"),
        pytest.param(b"Date,USD,\n2026-11-20,much,\n", id="no number"),
        pytest.param(b"Date,SEK,\n2026-11-20,11.5,\n", id="no dollar"),
    ],
)
def test_what_is_no_table_is_refused(raw: bytes) -> None:
    with pytest.raises(Rejected, match="a test: not a table"):
        read_file(raw, "a test")
