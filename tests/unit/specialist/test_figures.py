"""Which figures a text has, in whatever form, and which of them are known."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.specialist.figures import Known, figures

RESULT = {
    "window_start": "2026-03-10T23:30:00Z",
    "cost": "1234.50",
    "requests": 12,
    "share_percent": "51.7",
    "model": "gpt-4o",
    "name": "team 42",
    "component": "seven-up",
    "reason": "the call needs 7 USD, 80 % is used",
    "items": [{"tokens": 3000}],
    "shadow": True,
    "at": "2026-03-01T08:15:30+00:00",
}


@pytest.fixture
def known() -> Known:
    found = Known(ZoneInfo("Europe/Berlin"))
    found.learn(RESULT)
    return found


@pytest.mark.parametrize(
    "text",
    [
        "1,234.5 USD for 12 calls",
        "$1234.50",
        "twelve calls",
        "51.7 % of it",
        "51.70 percent",
        "3k tokens",
        "3,000 tokens",
        "GPT-4o, team 42 and seven-up",
        "on 2026-03-10",
        "at 23:30",
        "2026-03-10 23:30 UTC",
        "2026-03-11 00:30",
        "2026-03-10T23:30:00Z",
        "on March 10, 2026",
        "the 1st of March",
        "since 2026-03-01T08:15:30Z",
        "the call needs 7 USD",
        "80 % is used",
        "no figure at all",
        "one of them",
    ],
)
def test_known_however_it_is_written(known: Known, text: str) -> None:
    assert known.unknown(text) == []


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("1,234.51 USD", ["1,234.51"]),
        ("1234 USD", ["1234"]),
        ("13 calls", ["13"]),
        ("thirteen calls", ["thirteen"]),
        ("twice as much", ["twice"]),
        ("12 %", ["12 %"]),
        ("51.7 USD", ["51.7"]),
        ("4 calls of gpt-4o", ["4"]),
        ("gpt-4o-2", ["2"]),
        ("42 calls", ["42"]),
        ("3 million tokens", ["3 million"]),
        ("on 2026-03-12", ["2026-03-12"]),
        ("2026-03-10 23:31 UTC", ["2026-03-10 23:31 UTC"]),
        ("on March 12", ["March 12"]),
        ("at 7:30", ["7:30"]),
        ("\uff11\uff13 calls", ["13"]),
        ("\u0661\u0663 calls", ["\u0661\u0663"]),
        ("\u00bd of it", ["1", "2"]),
        ("x\u00b2", ["2"]),
        ("hundreds of calls", ["hundreds"]),
        (".5 USD", [".5"]),
        ("1.234,50", ["1.234", "50"]),
    ],
)
def test_unknown_however_it_is_written(known: Known, text: str, unknown: list[str]) -> None:
    assert known.unknown(text) == unknown


@given(st.decimals(min_value=0, max_value=10**9, places=4), st.decimals(min_value=0, max_value=10**9, places=4))
def test_a_number_is_known_if_and_only_if_it_is_the_same(said: object, told: object) -> None:
    known = Known(UTC)
    known.learn({"cost": str(told)})
    assert (known.unknown(f"it is {said:,f} USD") == []) is (said == told)


@given(st.text(alphabet="0123456789.,%kKmM:- ½²", max_size=30))
def test_no_text_breaks_it(text: str) -> None:
    found = [figure.text for figure in figures(text)]
    assert bool(found) is bool(re.search(r"[\d½²]", text))


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001 - Hypothesis wants it so
def test_every_moment_of_a_result_is_known_as_it_stands_there(at: datetime) -> None:
    known, text = Known(UTC), at.replace(tzinfo=UTC, microsecond=0).isoformat()
    known.learn(json.loads(json.dumps({"at": text})))
    assert known.unknown(f"at {text}, on {text[:10]}") == []
