"""When a report is due, and what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.policy.report_times import next_due, span_before
from budget_bus.policy.windows import Period

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "America/Sao_Paulo", "Asia/Kathmandu")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("every", "zone", "after", "due", "span"),
    [
        pytest.param("daily", "UTC", "2026-11-30T05:00Z", "2026-11-30T06:00Z",
                     ("2026-11-29T00:00Z", "2026-11-30T00:00Z"), id="later the same day, about the day before"),
        pytest.param("daily", "UTC", "2026-11-30T06:00Z", "2026-12-01T06:00Z",
                     ("2026-11-30T00:00Z", "2026-12-01T00:00Z"), id="the next day once it was due"),
        pytest.param("weekly", "UTC", "2026-11-24T00:00Z", "2026-11-30T06:00Z",
                     ("2026-11-23T00:00Z", "2026-11-30T00:00Z"), id="on Monday, about the week before"),
        pytest.param("monthly", "Europe/Berlin", "2026-11-24T00:00Z", "2026-12-01T05:00Z",
                     ("2026-10-31T23:00Z", "2026-11-30T23:00Z"), id="on the first, about the zone's month"),
        pytest.param("daily", "Europe/Berlin", "2026-03-28T12:00Z", "2026-03-29T04:00Z",
                     ("2026-03-27T23:00Z", "2026-03-28T23:00Z"), id="by summer time from the day on that it begins"),
    ],
)  # fmt: skip
def test_a_report_is_due_after_its_span(every: str, zone: str, after: str, due: str, span: tuple[str, str]) -> None:
    found = next_due(Period(every), time(6), zone, at(after))
    assert found == at(due)
    assert span_before(Period(every), zone, found) == (at(span[0]), at(span[1]))


@given(
    st.sampled_from([Period.DAILY, Period.WEEKLY, Period.MONTHLY]),
    st.times(),
    st.sampled_from(ZONES),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - it is given one
)
def test_spans_follow_on_one_another_without_gap_or_overlap(
    every: Period, clock: time, zone: str, after: datetime
) -> None:
    first = next_due(every, clock, zone, after)
    second = next_due(every, clock, zone, first)
    assert after < first < second
    assert span_before(every, zone, first)[1] == span_before(every, zone, second)[0]
    assert span_before(every, zone, first)[1] <= first
