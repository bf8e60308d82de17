"""Windows: tables for days that are not 24 hours long, and laws for every zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.policy.windows import EPOCH, Period, Window, window_of

# Before 2019 windows do not tile everywhere. Caracas, Colombo, Norfolk Island and Pyongyang moved their standard time
# by half an hour, where two hourly windows overlap; St. John's, Goose Bay and Moncton put the clock back at 00:01 and
# Casey once by three hours at 02:00, where a day has two midnights with the day before in between.
TILED = range(2019, 2038)
# No earlier event is accepted.
ACCEPTED = range(2000, 2038)
QUARTER = timedelta(minutes=15)

zones = st.sampled_from(sorted(available_timezones() - {"localtime", "Factory"}))
periods = st.sampled_from([period for period in Period if period is not Period.PER_CONTEXT])
anchors = st.fixed_dictionaries({"week_start": st.integers(0, 6), "month_anchor": st.integers(1, 31)})


def instants(years: range) -> st.SearchStrategy[datetime]:
    first, last = datetime(years[0], 1, 1, tzinfo=UTC), datetime(years[-1], 12, 31, tzinfo=UTC)
    return st.integers(0, (last - first) // timedelta(microseconds=1)).map(
        lambda us: first + timedelta(microseconds=us)
    )


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(text: str, zone: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("zone", "day", "start", "end"),
    [
        pytest.param("UTC", "2026-03-29", "2026-03-29T00:00", "2026-03-30T00:00", id="UTC has no summer time"),
        pytest.param("Europe/Berlin", "2026-06-01", "2026-05-31T22:00", "2026-06-01T22:00", id="Berlin in summer"),
        pytest.param("Europe/Berlin", "2026-12-01", "2026-11-30T23:00", "2026-12-01T23:00", id="Berlin in winter"),
        pytest.param("Europe/Berlin", "2026-03-29", "2026-03-28T23:00", "2026-03-29T22:00", id="Berlin, 23 hours"),
        pytest.param("Europe/Berlin", "2026-10-25", "2026-10-24T22:00", "2026-10-25T23:00", id="Berlin, 25 hours"),
        pytest.param("America/New_York", "2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00", id="New York, 23 hours"),
        pytest.param("America/New_York", "2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00", id="New York, 25 hours"),
        pytest.param(
            "America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00", "2018-11-05T02:00",
            id="Sao Paulo skips midnight: the day begins at the skip",
        ),
        pytest.param(
            "Asia/Beirut", "2026-03-29", "2026-03-28T22:00", "2026-03-29T21:00",
            id="Beirut skips midnight: the day begins at the skip",
        ),
        pytest.param(
            "Asia/Beirut", "2026-10-24", "2026-10-23T21:00", "2026-10-24T22:00",
            id="Beirut repeats the last hour of a day: it belongs to that day",
        ),
        pytest.param(
            "America/Havana", "2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00",
            id="Havana has midnight twice: the day begins at the first",
        ),
        pytest.param("America/Havana", "2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00", id="Havana, 23 hours"),
        pytest.param(
            "Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30", "2026-10-04T13:00", id="Lord Howe, 23.5 hours"
        ),
        pytest.param(
            "Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00", "2026-04-05T13:30", id="Lord Howe, 24.5 hours"
        ),
        pytest.param("Asia/Kathmandu", "2026-05-01", "2026-04-30T18:15", "2026-05-01T18:15", id="Kathmandu is +05:45"),
        pytest.param("Pacific/Apia", "2011-12-29", "2011-12-29T10:00", "2011-12-30T10:00", id="Apia, then a lost day"),
        pytest.param("Pacific/Apia", "2011-12-31", "2011-12-30T10:00", "2011-12-31T10:00", id="Apia after a lost day"),
    ],
)  # fmt: skip
def test_a_day_lasts_from_local_midnight_to_local_midnight(zone: str, day: str, start: str, end: str) -> None:
    expected = Window(utc(start), utc(end))
    assert window_of(Period.DAILY, zone, local(f"{day}T12:00", zone)) == expected
    assert window_of(Period.DAILY, zone, expected.start) == expected
    assert window_of(Period.DAILY, zone, utc(end) - timedelta(microseconds=1)) == expected
    assert window_of(Period.DAILY, zone, utc(end)).start == utc(end)


@pytest.mark.parametrize(
    ("zone", "at", "start"),
    [
        pytest.param("UTC", "2026-05-01T10:59:59", "2026-05-01T10:00", id="the last second of an hour"),
        pytest.param("UTC", "2026-05-01T11:00", "2026-05-01T11:00", id="the first instant of an hour"),
        pytest.param("Asia/Kathmandu", "2026-05-01T04:20", "2026-05-01T04:15", id="Kathmandu's hours begin at :15 UTC"),
        pytest.param("Asia/Kathmandu", "2026-05-01T04:14", "2026-05-01T03:15", id="and end there"),
        pytest.param("Asia/Kolkata", "2026-05-01T04:20", "2026-05-01T03:30", id="Kolkata's hours begin at :30 UTC"),
        pytest.param("Europe/Berlin", "2026-10-25T00:30", "2026-10-25T00:00", id="the first of two hours at 02:00"),
        pytest.param("Europe/Berlin", "2026-10-25T01:30", "2026-10-25T01:00", id="the second of two hours at 02:00"),
        pytest.param("Australia/Lord_Howe", "2026-04-04T14:45", "2026-04-04T14:30", id="before a shift of 30 minutes"),
        pytest.param("Australia/Lord_Howe", "2026-04-04T15:15", "2026-04-04T14:30", id="across a shift of 30 minutes"),
        pytest.param("Australia/Lord_Howe", "2026-04-04T15:45", "2026-04-04T15:30", id="after a shift of 30 minutes"),
    ],
)
def test_an_hour_is_always_sixty_minutes(zone: str, at: str, start: str) -> None:
    assert window_of(Period.HOURLY, zone, utc(at)) == Window(utc(start), utc(start) + timedelta(hours=1))


@pytest.mark.parametrize(
    ("week_start", "start"),
    [
        pytest.param(0, "2026-11-23", id="Monday: the day itself"),
        pytest.param(1, "2026-11-17", id="Tuesday: six days back"),
        pytest.param(2, "2026-11-18", id="Wednesday"),
        pytest.param(3, "2026-11-19", id="Thursday"),
        pytest.param(4, "2026-11-20", id="Friday"),
        pytest.param(5, "2026-11-21", id="Saturday"),
        pytest.param(6, "2026-11-22", id="Sunday: the day before"),
    ],
)
def test_a_week_begins_on_the_day_that_was_chosen(week_start: int, start: str) -> None:
    monday = utc("2026-11-23T15:43")
    assert window_of(Period.WEEKLY, "UTC", monday, week_start=week_start) == Window(
        utc(start), utc(start) + timedelta(days=7)
    )


def test_a_week_with_a_change_of_the_clock_is_an_hour_shorter() -> None:
    window = window_of(Period.WEEKLY, "Europe/Berlin", utc("2026-03-26T12:00"))
    assert window == Window(utc("2026-03-22T23:00"), utc("2026-03-29T22:00"))


@pytest.mark.parametrize(
    ("anchor", "at", "start", "end"),
    [
        pytest.param(1, "2026-02-28", "2026-02-01", "2026-03-01", id="the first: a calendar month"),
        pytest.param(1, "2028-02-29", "2028-02-01", "2028-03-01", id="the first: a February of 29 days"),
        pytest.param(15, "2027-01-05", "2026-12-15", "2027-01-15", id="the 15th: over the end of a year"),
        pytest.param(15, "2026-12-15", "2026-12-15", "2027-01-15", id="the 15th: on the day itself"),
        pytest.param(29, "2026-02-27", "2026-01-29", "2026-02-28", id="the 29th: before the end of a short February"),
        pytest.param(29, "2026-02-28", "2026-02-28", "2026-03-29", id="the 29th: from the 28th of February"),
        pytest.param(29, "2028-02-28", "2028-01-29", "2028-02-29", id="the 29th: not yet, in a leap year"),
        pytest.param(29, "2028-02-29", "2028-02-29", "2028-03-29", id="the 29th: there is one in a leap year"),
        pytest.param(30, "2026-02-28", "2026-02-28", "2026-03-30", id="the 30th: from the 28th of February"),
        pytest.param(30, "2028-02-29", "2028-02-29", "2028-03-30", id="the 30th: from the 29th in a leap year"),
        pytest.param(31, "2026-02-15", "2026-01-31", "2026-02-28", id="the 31st: ends with a short February"),
        pytest.param(31, "2026-03-30", "2026-02-28", "2026-03-31", id="the 31st: the day before the next"),
        pytest.param(31, "2026-04-30", "2026-04-30", "2026-05-31", id="the 31st: from the 30th of April"),
        pytest.param(31, "2028-03-01", "2028-02-29", "2028-03-31", id="the 31st: after a leap day"),
        pytest.param(31, "2100-03-01", "2100-02-28", "2100-03-31", id="the 31st: 2100 is no leap year"),
    ],
)
def test_a_month_begins_on_its_anchor_or_on_its_last_day(anchor: int, at: str, start: str, end: str) -> None:
    assert window_of(Period.MONTHLY, "UTC", utc(f"{at}T12:00"), month_anchor=anchor) == Window(utc(start), utc(end))


def test_a_total_budget_has_one_window_without_an_end() -> None:
    for at in ("2000-01-01", "2026-05-01", "2099-12-31"):
        assert window_of(Period.TOTAL, "Asia/Kathmandu", utc(at)) == Window(EPOCH, None)


@given(periods, zones, instants(TILED), anchors)
def test_an_instant_lies_in_its_window(period: Period, zone: str, at: datetime, anchor: dict[str, int]) -> None:
    window = window_of(period, zone, at, **anchor)
    assert window.start <= at
    assert window.end is None or at < window.end


@given(periods, zones, instants(TILED), anchors, st.floats(0, 1, exclude_max=True))
def test_all_instants_of_a_window_have_that_window(
    period: Period, zone: str, at: datetime, anchor: dict[str, int], share: float
) -> None:
    window = window_of(period, zone, at, **anchor)
    last = (window.end or at + timedelta(days=400)) - timedelta(microseconds=1)
    other = window.start + (last - window.start) * share
    for inside in (window.start, other, last):
        assert window_of(period, zone, inside, **anchor) == window


@given(periods, zones, instants(TILED), anchors)
def test_windows_tile_time(period: Period, zone: str, at: datetime, anchor: dict[str, int]) -> None:
    window = window_of(period, zone, at, **anchor)
    if window.end is not None:
        after = window_of(period, zone, window.end, **anchor)
        before = window_of(period, zone, window.start - timedelta(microseconds=1), **anchor)
        assert after.start == window.end
        assert before.end == window.start


@given(periods, zones, instants(ACCEPTED), anchors)
def test_every_boundary_is_a_multiple_of_15_minutes(
    period: Period, zone: str, at: datetime, anchor: dict[str, int]
) -> None:
    window = window_of(period, zone, at, **anchor)
    assert (window.start - EPOCH) % QUARTER == timedelta()
    assert window.end is None or (window.end - EPOCH) % QUARTER == timedelta()


def test_the_multiple_of_15_minutes_is_a_law_of_our_time_only() -> None:
    # Liberia was 44:30 behind UTC until 1972, the last zone to round its offset; no event is as old as that.
    for at, whole in (("1971-06-01T12:00", False), ("1973-06-01T12:00", True)):
        window = window_of(Period.DAILY, "Africa/Monrovia", utc(at))
        assert ((window.start - EPOCH) % QUARTER == timedelta()) is whole


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Beirut", "America/Havana", "Australia/Lord_Howe"])
@pytest.mark.parametrize("period", [Period.HOURLY, Period.DAILY])
def test_a_year_has_no_gap_and_no_overlap(zone: str, period: Period) -> None:
    at, windows = utc("2026-01-01T00:00"), []
    while at < utc("2027-01-01T00:00"):
        windows.append(window_of(period, zone, at))
        assert windows[-1].end is not None
        at = windows[-1].end
    assert all(left.end == right.start for left, right in pairwise(windows))
