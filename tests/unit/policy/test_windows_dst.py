"""
Windows around changes of the clock in six zones, in tables that were written from the zones' rules.

The rules, as `zdump -v -c 2026,2028` prints them; + is the offset from UTC before and after:

Europe/Berlin        2026-03-29 01:00Z +1 -> +2, 2026-10-25 01:00Z +2 -> +1
America/New_York     2026-03-08 07:00Z -5 -> -4, 2026-11-01 06:00Z -4 -> -5
Australia/Lord_Howe  2026-04-04 15:00Z +11 -> +10:30, 2026-10-03 15:30Z +10:30 -> +11
America/Santiago     2026-04-05 03:00Z -3 -> -4 (23:00 comes twice), 2026-09-06 04:00Z -4 -> -3 (00:00 is skipped)
Africa/Cairo         2026-04-23 22:00Z +2 -> +3 (00:00 is skipped), 2026-10-29 21:00Z +3 -> +2 (23:00 comes twice)
Asia/Kathmandu       +5:45, no changes

test_windows.py has the laws, and tables of what these zones do not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from budget_bus.policy.windows import Period, Window, window_of

INSTANT = timedelta(microseconds=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


DAYS = [
    ("America/Santiago", "2026-09-05", "2026-09-05T04:00", "2026-09-06T04:00", 24, "the day before a skipped midnight"),
    ("America/Santiago", "2026-09-06", "2026-09-06T04:00", "2026-09-07T03:00", 23, "midnight skipped, from 01:00"),
    ("America/Santiago", "2026-04-04", "2026-04-04T03:00", "2026-04-05T04:00", 25, "23:00 twice: both are this day's"),
    ("America/Santiago", "2026-04-05", "2026-04-05T04:00", "2026-04-06T04:00", 24, "the day after 23:00 came twice"),
    ("Africa/Cairo", "2026-04-23", "2026-04-22T22:00", "2026-04-23T22:00", 24, "the day before a skipped midnight"),
    ("Africa/Cairo", "2026-04-24", "2026-04-23T22:00", "2026-04-24T21:00", 23, "midnight skipped, from 01:00"),
    ("Africa/Cairo", "2026-10-29", "2026-10-28T21:00", "2026-10-29T22:00", 25, "23:00 twice: both are this day's"),
    ("Africa/Cairo", "2026-10-30", "2026-10-29T22:00", "2026-10-30T22:00", 24, "the day after 23:00 came twice"),
    ("Europe/Berlin", "2027-03-28", "2027-03-27T23:00", "2027-03-28T22:00", 23, "a year later on another date"),
    ("Europe/Berlin", "2027-10-31", "2027-10-30T22:00", "2027-10-31T23:00", 25, "on the last day of a month"),
    ("America/New_York", "2027-03-14", "2027-03-14T05:00", "2027-03-15T04:00", 23, "a year later on another date"),
    ("America/New_York", "2027-11-07", "2027-11-07T04:00", "2027-11-08T05:00", 25, "a year later on another date"),
    ("Australia/Lord_Howe", "2027-04-04", "2027-04-03T13:00", "2027-04-04T13:30", 24.5, "half an hour longer"),
    ("Australia/Lord_Howe", "2027-10-03", "2027-10-02T13:30", "2027-10-03T13:00", 23.5, "half an hour shorter"),
    ("Asia/Kathmandu", "2026-03-29", "2026-03-28T18:15", "2026-03-29T18:15", 24, "a day like any other"),
]  # fmt: skip

HOURS = [
    ("Europe/Berlin", "2026-03-29T00:59:59", "2026-03-29T00:00", "01:59:59, the last before the skip"),
    ("Europe/Berlin", "2026-03-29T01:00", "2026-03-29T01:00", "03:00, the first after the skip"),
    ("America/New_York", "2026-03-08T06:59:59", "2026-03-08T06:00", "01:59:59, the last before the skip"),
    ("America/New_York", "2026-03-08T07:00", "2026-03-08T07:00", "03:00, the first after the skip"),
    ("America/New_York", "2026-11-01T05:30", "2026-11-01T05:00", "the first 01:30"),
    ("America/New_York", "2026-11-01T06:30", "2026-11-01T06:00", "the second 01:30"),
    ("Australia/Lord_Howe", "2026-10-03T15:29:59", "2026-10-03T14:30", "01:59:59, the last before the skip"),
    ("Australia/Lord_Howe", "2026-10-03T15:30", "2026-10-03T15:30", "02:30, the first after the skip"),
    ("Australia/Lord_Howe", "2026-10-03T16:29:59", "2026-10-03T15:30", "03:29:59, an hour after the skip"),
    ("America/Santiago", "2026-09-06T03:59:59", "2026-09-06T03:00", "23:59:59 before a skipped midnight"),
    ("America/Santiago", "2026-09-06T04:00", "2026-09-06T04:00", "01:00 after a skipped midnight"),
    ("America/Santiago", "2026-04-05T02:30", "2026-04-05T02:00", "the first 23:30"),
    ("America/Santiago", "2026-04-05T03:30", "2026-04-05T03:00", "the second 23:30"),
    ("Africa/Cairo", "2026-04-23T21:59:59", "2026-04-23T21:00", "23:59:59 before a skipped midnight"),
    ("Africa/Cairo", "2026-04-23T22:00", "2026-04-23T22:00", "01:00 after a skipped midnight"),
    ("Africa/Cairo", "2026-10-29T20:30", "2026-10-29T20:00", "the first 23:30"),
    ("Africa/Cairo", "2026-10-29T21:30", "2026-10-29T21:00", "the second 23:30"),
    ("Asia/Kathmandu", "2026-03-29T18:14:59", "2026-03-29T17:15", "the last second of a day"),
    ("Asia/Kathmandu", "2026-03-29T18:15", "2026-03-29T18:15", "the first of the next"),
]

# week_start 0 is Monday, 4 Friday, 6 Sunday. 167 hours have a day of 23, 169 one of 25.
WEEKS = [
    ("Europe/Berlin", 6, "2026-03-28T23:00", "2026-04-04T22:00", 167, "begins with the short Sunday"),
    ("Europe/Berlin", 0, "2026-10-18T22:00", "2026-10-25T23:00", 169, "ends with the long Sunday"),
    ("Europe/Berlin", 6, "2026-10-24T22:00", "2026-10-31T23:00", 169, "begins with the long Sunday"),
    ("America/New_York", 0, "2026-03-02T05:00", "2026-03-09T04:00", 167, "ends with the short Sunday"),
    ("America/New_York", 6, "2026-03-08T05:00", "2026-03-15T04:00", 167, "begins with the short Sunday"),
    ("America/New_York", 0, "2026-10-26T04:00", "2026-11-02T05:00", 169, "ends with the long Sunday"),
    ("America/New_York", 6, "2026-11-01T04:00", "2026-11-08T05:00", 169, "begins with the long Sunday"),
    ("Australia/Lord_Howe", 0, "2026-03-29T13:00", "2026-04-05T13:30", 168.5, "ends with the long Sunday"),
    ("Australia/Lord_Howe", 6, "2026-04-04T13:00", "2026-04-11T13:30", 168.5, "begins with the long Sunday"),
    ("Australia/Lord_Howe", 6, "2026-10-03T13:30", "2026-10-10T13:00", 167.5, "begins with the short Sunday"),
    ("America/Santiago", 0, "2026-08-31T04:00", "2026-09-07T03:00", 167, "has a skipped midnight within"),
    ("America/Santiago", 6, "2026-09-06T04:00", "2026-09-13T03:00", 167, "begins where midnight is skipped"),
    ("America/Santiago", 6, "2026-08-30T04:00", "2026-09-06T04:00", 168, "ends where midnight is skipped"),
    ("America/Santiago", 6, "2026-03-29T03:00", "2026-04-05T04:00", 169, "ends with the second 23:00"),
    ("Africa/Cairo", 0, "2026-04-19T22:00", "2026-04-26T21:00", 167, "has a skipped midnight within"),
    ("Africa/Cairo", 4, "2026-04-23T22:00", "2026-04-30T21:00", 167, "begins where midnight is skipped"),
    ("Africa/Cairo", 6, "2026-10-24T21:00", "2026-10-31T22:00", 169, "has 23:00 twice within"),
    ("Asia/Kathmandu", 0, "2026-03-29T18:15", "2026-04-05T18:15", 168, "from Monday"),
    ("Asia/Kathmandu", 6, "2026-03-28T18:15", "2026-04-04T18:15", 168, "from Sunday"),
]

MONTHS = [
    ("Europe/Berlin", 1, "2026-02-28T23:00", "2026-03-31T22:00", "March, begun in winter, ended in summer"),
    ("Europe/Berlin", 29, "2026-03-28T23:00", "2026-04-28T22:00", "begins on the day of 23 hours"),
    ("Europe/Berlin", 30, "2026-02-27T23:00", "2026-03-29T22:00", "from the end of February to after the change"),
    ("Europe/Berlin", 31, "2026-02-27T23:00", "2026-03-30T22:00", "from the end of February to the 31st"),
    ("Europe/Berlin", 31, "2026-09-29T22:00", "2026-10-30T23:00", "from the 30th of September to winter"),
    ("America/New_York", 1, "2026-11-01T04:00", "2026-12-01T05:00", "begins on the day of 25 hours"),
    ("America/New_York", 29, "2026-10-29T04:00", "2026-11-29T05:00", "over the change"),
    ("America/New_York", 30, "2026-10-30T04:00", "2026-11-30T05:00", "over the change"),
    ("America/New_York", 31, "2026-10-31T04:00", "2026-11-30T05:00", "over the change, to a month of 30 days"),
    ("Australia/Lord_Howe", 1, "2026-03-31T13:00", "2026-04-30T13:30", "over the change"),
    ("Australia/Lord_Howe", 29, "2026-03-28T13:00", "2026-04-28T13:30", "over the change"),
    ("Australia/Lord_Howe", 30, "2026-03-29T13:00", "2026-04-29T13:30", "over the change"),
    ("Australia/Lord_Howe", 31, "2026-03-30T13:00", "2026-04-29T13:30", "over the change, to a month of 30 days"),
    ("America/Santiago", 1, "2026-04-01T03:00", "2026-05-01T04:00", "over the hour that comes twice"),
    ("America/Santiago", 6, "2026-09-06T04:00", "2026-10-06T03:00", "begins where midnight is skipped"),
    ("America/Santiago", 29, "2026-08-29T04:00", "2026-09-29T03:00", "over the skipped midnight"),
    ("America/Santiago", 30, "2026-08-30T04:00", "2026-09-30T03:00", "over the skipped midnight"),
    ("America/Santiago", 31, "2026-08-31T04:00", "2026-09-30T03:00", "over the skipped midnight"),
    ("Africa/Cairo", 1, "2026-03-31T22:00", "2026-04-30T21:00", "over the skipped midnight"),
    ("Africa/Cairo", 24, "2026-04-23T22:00", "2026-05-23T21:00", "begins where midnight is skipped"),
    ("Africa/Cairo", 29, "2026-10-28T21:00", "2026-11-28T22:00", "begins on the day of 25 hours"),
    ("Africa/Cairo", 30, "2026-10-29T22:00", "2026-11-29T22:00", "begins after the second 23:00"),
    ("Africa/Cairo", 31, "2026-09-29T21:00", "2026-10-30T22:00", "from the 30th of September over the change"),
    ("Asia/Kathmandu", 1, "2026-02-28T18:15", "2026-03-31T18:15", "March"),
    ("Asia/Kathmandu", 29, "2028-02-28T18:15", "2028-03-28T18:15", "from a leap day"),
    ("Asia/Kathmandu", 30, "2028-02-28T18:15", "2028-03-29T18:15", "from the end of a leap February"),
    ("Asia/Kathmandu", 31, "2026-02-27T18:15", "2026-03-30T18:15", "from the end of February"),
]


def _rows(table: Sequence[tuple[object, ...]]) -> list[Any]:
    """The rows, each with its zone, its anchor or day, and its words as its id."""
    return [pytest.param(*row[:-1], id=f"{row[0]}, {row[1]}: {row[-1]}") for row in table]


def _is_the_window(period: Period, zone: str, window: Window, **anchor: int) -> None:
    """*window* is that of its first and of its last instant and of one between; its neighbours touch it."""
    assert window.end is not None
    for inside in (window.start, window.start + (window.end - window.start) / 2, window.end - INSTANT):
        assert window_of(period, zone, inside, **anchor) == window
    assert window_of(period, zone, window.start - INSTANT, **anchor).end == window.start
    assert window_of(period, zone, window.end, **anchor).start == window.end


def _begins_a_day(zone: str, at: datetime) -> bool:
    """Whether the date changes at *at*, by the standard library's zones and none of our own arithmetic."""
    return (at - INSTANT).astimezone(ZoneInfo(zone)).date() < at.astimezone(ZoneInfo(zone)).date()


@pytest.mark.parametrize(("zone", "day", "start", "end", "hours"), _rows(DAYS))
def test_a_day_around_a_change(zone: str, day: str, start: str, end: str, hours: float) -> None:
    window = Window(utc(start), utc(end))
    assert utc(end) - utc(start) == timedelta(hours=hours)
    assert window.start.astimezone(ZoneInfo(zone)).date().isoformat() == day
    _is_the_window(Period.DAILY, zone, window)


@pytest.mark.parametrize(("zone", "at", "start"), _rows(HOURS))
def test_an_hour_around_a_change(zone: str, at: str, start: str) -> None:
    window = Window(utc(start), utc(start) + timedelta(hours=1))
    assert window_of(Period.HOURLY, zone, utc(at)) == window
    _is_the_window(Period.HOURLY, zone, window)


@pytest.mark.parametrize(("zone", "week_start", "start", "end", "hours"), _rows(WEEKS))
def test_a_week_over_a_change(zone: str, week_start: int, start: str, end: str, hours: float) -> None:
    assert utc(end) - utc(start) == timedelta(hours=hours)
    assert utc(start).astimezone(ZoneInfo(zone)).weekday() == week_start
    _is_the_window(Period.WEEKLY, zone, Window(utc(start), utc(end)), week_start=week_start)


@pytest.mark.parametrize(("zone", "anchor", "start", "end"), _rows(MONTHS))
def test_a_month_over_a_change(zone: str, anchor: int, start: str, end: str) -> None:
    _is_the_window(Period.MONTHLY, zone, Window(utc(start), utc(end)), month_anchor=anchor)


def test_the_tables_agree_with_the_zones() -> None:
    """The tables were written by hand: every edge of theirs is where the date changes in its zone."""
    edges = [(row[0], edge) for table in (WEEKS, MONTHS) for row in table for edge in row[2:4]]
    edges += [(row[0], edge) for row in DAYS for edge in row[2:4]]
    wrong = [(zone, edge) for zone, edge in edges if not _begins_a_day(str(zone), utc(str(edge)))]
    assert wrong == []


def test_a_wrong_edge_in_a_table_is_seen() -> None:
    """An hour too early or too late, as it would be with the offset of the other side of the change."""
    for edge in ("2026-09-06T03:00", "2026-09-06T05:00"):
        assert not _begins_a_day("America/Santiago", utc(edge))
