"""When an attempt is repeated: a table of answers, and the pauses between."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.notifiers.attempts import Patience, Refused, TryAgain, judge, parse_retry_after

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_taken(status: int) -> None:
    judge(status, None, NOW)
    assert parse_retry_after(None, NOW) == 0


@pytest.mark.parametrize(
    ("status", "retry_after", "after_s"),
    [
        pytest.param(408, None, 0, id="a request that took too long"),
        pytest.param(425, None, 0, id="a request that came too early"),
        pytest.param(429, None, 0, id="too many requests, without a time"),
        pytest.param(429, "120", 120, id="too many requests, with the seconds to wait"),
        pytest.param(503, "Mon, 02 Nov 2026 12:01:30 GMT", 90, id="unavailable, with the time to come back"),
        pytest.param(503, "Mon, 02 Nov 2026 11:00:00 GMT", 0, id="a time that has passed"),
        pytest.param(503, "soon", 0, id="a time that cannot be read"),
        pytest.param(503, "-5", 0, id="a negative time"),
        pytest.param(500, "120", 0, id="a broken receiver, which cannot know the time either"),
        pytest.param(502, None, 0, id="a proxy without its server"),
        pytest.param(599, None, 0, id="a 5xx that nobody knows"),
    ],
)
def test_tried_again(status: int, retry_after: str | None, after_s: float) -> None:
    with pytest.raises(TryAgain) as told:
        judge(status, retry_after, NOW)
    assert told.value.after_s == after_s
    assert str(status) in str(told.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 410, 422])
def test_not_tried_again(status: int) -> None:
    with pytest.raises(Refused, match=str(status)):
        judge(status, "1", NOW)


@pytest.mark.parametrize(
    ("tried", "waited_s", "asked_s", "pause_s"),
    [
        pytest.param(1, 0, 0, 1, id="the first pause"),
        pytest.param(2, 1, 0, 2, id="the second one is twice as long"),
        pytest.param(5, 15, 0, 16, id="and so on"),
        pytest.param(9, 300, 0, 60, id="up to the longest"),
        pytest.param(5000, 300, 0, 60, id="however many there were"),
        pytest.param(1, 0, 90, 90, id="what the receiver asks for, when it is longer"),
        pytest.param(5, 15, 3, 16, id="our own, when what it asks for is shorter"),
        pytest.param(9, 540, 0, 60, id="one that ends just within the patience"),
        pytest.param(9, 541, 0, None, id="none that ends after it"),
        pytest.param(1, 0, 601, None, id="none when it asks for more than the patience"),
    ],
)
def test_pauses(tried: int, waited_s: float, asked_s: float, pause_s: float | None) -> None:
    assert Patience(600).pause_s(tried, waited_s=waited_s, asked_s=asked_s, jitter=0) == pause_s


@given(
    st.integers(1, 10_000), st.floats(0, 600), st.floats(0, 600), st.floats(0, 1, exclude_max=True), st.floats(1, 600)
)
def test_a_pause_is_never_shorter_than_asked_nor_outlasts_the_patience(
    tried: int, waited_s: float, asked_s: float, jitter: float, give_up_after_s: float
) -> None:
    pause_s = Patience(give_up_after_s).pause_s(tried, waited_s=waited_s, asked_s=asked_s, jitter=jitter)
    if pause_s is not None:
        assert pause_s >= max(asked_s, 0.5)
        assert waited_s + pause_s <= give_up_after_s
