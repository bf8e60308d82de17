"""
Events that are read after midnight, and calls that last over it: each in its own window, whatever the zone's clocks do.

The consumers' clock is turned; what is read late has happened at the last microsecond of a window.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import pytest

from budget_bus.consumers.holds import HoldKeeper
from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.policy.budget import Budget, Policy
from budget_bus.policy.windows import Period, Window
from budget_bus.store.catalogue import Catalogue
from tests.integration.books import BOUND, COST, USD, Books, check, usage

INSTANT = timedelta(microseconds=1)


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def turn(books: Books, at: datetime) -> None:
    """Stop the clock of the consumers at *at*."""
    books.clock = lambda: at


def at(when: datetime, **fields: Any) -> dict[str, Any]:
    """A usage that happened at *when*."""
    return usage(occurred_at=when.isoformat(), **fields)


async def spent(books: Books) -> dict[datetime, int]:
    """What every window of all budgets has spent, those of zero left out."""
    rows = await books.pool.fetch("SELECT window_start, spent FROM balance WHERE spent > 0 ORDER BY window_start")
    return {row["window_start"]: row["spent"] for row in rows}


class Stretch(NamedTuple):
    """A window, from its first instant to the next one's, and the budget that has it."""

    period: str
    zone: str
    start: str
    end: str
    anchors: dict[str, int]

    async def limit(self, books: Books, amount: int) -> Budget:
        budget = await books.limit(amount, period=Period(self.period), timezone=self.zone, **self.anchors)
        assert budget.window(utc(self.start)) == Window(utc(self.start), utc(self.end))
        return budget


def _row(words: str, period: str, zone: str, start: str, end: str, **anchors: int) -> Any:
    return pytest.param(Stretch(period, zone, start, end, anchors), id=words)


# In UTC, by hand, from the rules of the zones as zdump prints them.
stretches = pytest.mark.parametrize("stretch", [
    _row("an hour", "hourly", "UTC", "2027-03-02T14:00", "2027-03-02T15:00"),
    _row("an hour in Kathmandu", "hourly", "Asia/Kathmandu", "2027-03-02T14:15", "2027-03-02T15:15"),
    _row("the first hour at 02:00 in Berlin", "hourly", "Europe/Berlin", "2027-10-31T00:00", "2027-10-31T01:00"),
    _row("the second hour at 02:00 in Berlin", "hourly", "Europe/Berlin", "2027-10-31T01:00", "2027-10-31T02:00"),
    _row("a day", "daily", "UTC", "2027-03-02", "2027-03-03"),
    _row("a day in Kathmandu", "daily", "Asia/Kathmandu", "2027-03-01T18:15", "2027-03-02T18:15"),
    _row("23 hours in Berlin", "daily", "Europe/Berlin", "2027-03-27T23:00", "2027-03-28T22:00"),
    _row("25 hours in Berlin", "daily", "Europe/Berlin", "2027-10-30T22:00", "2027-10-31T23:00"),
    _row("23 hours in New York", "daily", "America/New_York", "2027-03-14T05:00", "2027-03-15T04:00"),
    _row("25 hours in New York", "daily", "America/New_York", "2027-11-07T04:00", "2027-11-08T05:00"),
    _row("24.5 hours on Lord Howe", "daily", "Australia/Lord_Howe", "2027-04-03T13:00", "2027-04-04T13:30"),
    _row("Santiago skips midnight", "daily", "America/Santiago", "2027-09-05T04:00", "2027-09-06T03:00"),
    _row("Santiago has 23:00 twice", "daily", "America/Santiago", "2027-04-03T03:00", "2027-04-04T04:00"),
    _row("a week", "weekly", "UTC", "2027-03-01", "2027-03-08"),
    _row("from a Sunday of 25 hours", "weekly", "Europe/Berlin", "2027-10-30T22:00", "2027-11-06T23:00", week_start=6),
    _row("February", "monthly", "UTC", "2027-02-01", "2027-03-01"),
    _row("March in New York", "monthly", "America/New_York", "2027-03-01T05:00", "2027-04-01T04:00"),
    _row("from the 31st to the 28th of February", "monthly", "UTC", "2027-01-31", "2027-02-28", month_anchor=31),
    _row("over the end of a year", "monthly", "UTC", "2026-12-15", "2027-01-15", month_anchor=15),
])  # fmt: skip


@stretches
async def test_what_is_read_after_the_end_counts_in_the_window_it_happened_in(books: Books, stretch: Stretch) -> None:
    """One event at the first instant of a window, one at its last, one at the next one's first: all read late."""
    first, after = utc(stretch.start), utc(stretch.end)
    budget = await stretch.limit(books, 10 * USD)
    turn(books, after + timedelta(hours=20))
    await books.settle(at(after), at(after - INSTANT), at(first), at(first - INSTANT))
    before = budget.window(first - INSTANT)
    assert before.end == first
    assert await spent(books) == {before.start: COST, first: 2 * COST, after: COST}
    await books.assert_exact()


@stretches
async def test_a_call_that_lasts_over_the_end_is_paid_in_the_window_that_allowed_it(
    books: Books, stretch: Stretch
) -> None:
    """Decided at the last instant of a window, made and settled in the next: held and spent in the first alone."""
    first, after = utc(stretch.start), utc(stretch.end)
    budget = await stretch.limit(books, BOUND)
    turn(books, after - INSTANT)
    asked, refused = check(), check()
    assert [answer["allowed"] for answer in await books.ask(asked, refused)] == [True, False]
    turn(books, after)
    fresh = check()
    assert [answer["allowed"] for answer in await books.ask(fresh)] == [True]
    assert await books.balance(budget, first) == await books.balance(budget, after) == (0, BOUND, 0)
    turn(books, after + timedelta(seconds=10))
    await books.settle(usage(request_id=asked["request_id"]))
    assert await books.balance(budget, first) == (COST, 0, 0)
    assert await books.balance(budget, after) == (0, BOUND, 0)
    await books.settle(usage(request_id=fresh["request_id"]))
    assert await spent(books) == {first: COST, after: COST}
    await books.assert_exact()


async def test_a_total_has_no_midnight(books: Books) -> None:
    budget = await books.limit(10 * USD, period=Period.TOTAL, timezone="Europe/Berlin")
    turn(books, utc("2027-01-01T12:00"))
    await books.settle(*(at(utc(day) - INSTANT) for day in ("2026-03-29T01:00", "2026-07-01", "2027-01-01")))
    assert await books.balance(budget) == (3 * COST, 0, 0)
    await books.assert_exact()


async def test_one_event_lies_in_as_many_windows_as_there_are_budgets(books: Books) -> None:
    """The last instant of October in Berlin: still October there, in UTC and in New York; the 1st in Kathmandu."""
    moment = utc("2027-10-31T23:00") - INSTANT
    zones = {
        "Europe/Berlin": ("2027-10-30T22:00", "2027-09-30T22:00"),
        "UTC": ("2027-10-31", "2027-10-01"),
        "America/New_York": ("2027-10-31T04:00", "2027-10-01T04:00"),
        "Asia/Kathmandu": ("2027-10-31T18:15", "2027-10-31T18:15"),
    }
    expected = {}
    for number, (zone, starts) in enumerate(zones.items()):
        for period, start in zip((Period.DAILY, Period.MONTHLY), starts, strict=True):
            # The scope tells the budgets apart; all of them admit the call.
            scope = {"user": {"not": [f"nobody-{number}"]}}
            budget = await books.limit(10 * USD, period=period, timezone=zone, scope=scope)
            expected[budget.budget_id] = utc(start)
    turn(books, utc("2027-11-20T12:00"))
    await books.settle(at(moment))
    rows = await books.pool.fetch("SELECT budget_id, window_start FROM balance WHERE spent = $1", COST)
    assert {row["budget_id"]: row["window_start"] for row in rows} == expected
    assert await books.pool.fetchval("SELECT late FROM ledger")
    await books.assert_exact()


async def test_a_window_that_is_over_does_not_refuse_though_late_usage_fills_it(books: Books) -> None:
    budget = await books.limit(BOUND)
    midnight = utc("2027-03-03")
    turn(books, midnight + timedelta(minutes=1))
    await books.settle(*(at(midnight - INSTANT) for _ in range(10)))
    assert await books.balance(budget, midnight - INSTANT) == (10 * COST, 0, 0)
    assert [answer["allowed"] for answer in await books.ask(check())] == [True]


async def test_a_late_event_alerts_for_the_window_it_fills(books: Books) -> None:
    await books.limit(2 * COST, policy=Policy.WARN, thresholds=(100,))
    midnight = utc("2027-03-03")
    turn(books, midnight + timedelta(minutes=1))
    await books.settle(usage(), at(midnight - INSTANT))
    assert await books.pool.fetchval("SELECT count(*) FROM alert") == 0
    await books.settle(at(midnight - INSTANT))
    assert [row["window_start"] for row in await books.pool.fetch("SELECT window_start FROM alert")] == [
        midnight - timedelta(days=1)
    ]


async def test_a_hold_that_nobody_settled_is_charged_to_the_day_that_allowed_it(books: Books) -> None:
    """It expires after midnight: the new day begins empty (a reset while a call is in flight: litellm PR 30330)."""
    budget = await books.limit(BOUND, timezone="Europe/Berlin")
    midnight = utc("2027-10-31T23:00")
    turn(books, midnight - timedelta(minutes=1))
    asked = check()
    await books.ask(asked)
    turn(books, midnight + timedelta(minutes=10))
    await books.settle()
    assert await HoldKeeper(books.pool, Catalogue(Policy.WARN), books.clock).expire_once() == 1
    assert await books.balance(budget, midnight - INSTANT) == (0, 0, BOUND)
    assert [answer["allowed"] for answer in await books.ask(check())] == [True]
    await books.settle(usage(request_id=asked["request_id"]))
    assert await books.balance(budget, midnight - INSTANT) == (COST, 0, 0)
    await books.assert_exact()


async def test_usage_that_names_no_request_settles_the_hold_of_before_midnight_in_its_day(books: Books) -> None:
    budget = await books.limit(10 * USD)
    midnight = utc("2027-03-03")
    turn(books, midnight - INSTANT)
    await books.ask(check())
    turn(books, midnight + timedelta(seconds=3))
    await books.settle(usage())
    assert await books.balance(budget, midnight - INSTANT) == (COST, 0, 0)
    assert await spent(books) == {midnight - timedelta(days=1): COST}
    await books.assert_exact()


async def test_a_day_that_ends_under_four_settlers_and_a_decider_loses_nothing(books: Books) -> None:
    """Both days' balances are born while events of both days flow, out of order, in a day of 25 hours."""
    budget = await books.limit(10 * USD, timezone="Europe/Berlin")
    midnight = utc("2027-10-31T23:00")
    turn(books, midnight)
    await books.claim(USAGE_RECORDED, 0)  # before `ask` does, which would take it from the settler

    async def spend(part: int) -> None:
        settler = books.settler()
        for step in (3, -1, 1, -90_000, 0, -2):
            when = midnight + timedelta(seconds=step)
            await books.settle(at(when), at(when, component="ergon"), part=part, by=settler)

    await asyncio.gather(*(spend(part) for part in range(4)), books.ask(check(component="codex")))
    assert await books.balance(budget, midnight) == (24 * COST, BOUND, 0)
    # 90,000 seconds are 25 hours: the first instant of the day before, not the last of the one before that.
    assert await spent(books) == {midnight - timedelta(hours=25): 24 * COST, midnight: 24 * COST}
    await books.assert_exact()
