"""
What users of other budget services saw of budgets that did not reset, or at the wrong time, told again of this one.

Windows are derived from the time of the event, so no job can be late, miss one or overwrite one. Each test says whose
complaint it is. Not here: a projection that ignores the reset (BerriAI/litellm #31934), for there is no forecast yet.
A reset by hand in mid-window (maximhq/bifrost #4892) is a raise here: `test_field_limits.py`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from budget_bus.policy.windows import Period
from budget_bus.store.limits import set_limit
from tests.integration.books import BOUND, COST, Books, check, usage


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def turn(books: Books, at: datetime) -> None:
    """Stop the clock of the consumers at *at*."""
    books.clock = lambda: at


async def ask(books: Books, **fields: Any) -> dict[str, Any]:
    (answer,) = await books.ask(check(**fields))
    return answer


async def spend(books: Books, at: str) -> None:
    """One usage, read by the settler when it happens."""
    turn(books, utc(at))
    await books.settle(usage())


async def free_from(books: Books, before: str, at: str) -> None:
    """The budget refuses until *before*, and allows from *at* on."""
    turn(books, utc(before))
    assert not (await ask(books))["allowed"]
    turn(books, utc(at))
    assert (await ask(books, hold=False))["allowed"]


async def test_a_day_resets_at_midnight_of_its_zone_whenever_it_was_set(books: Books) -> None:
    """A daily budget reset at 15:43, the time of day at which it had been made: BerriAI/litellm #10288."""
    turn(books, utc("2027-03-02T15:43"))
    await books.limit(BOUND, timezone="Europe/Berlin")
    await books.settle(usage())
    assert (await ask(books))["resets_at"] == "2027-03-02T23:00:00Z"
    await free_from(books, "2027-03-02T22:59:59.999999", "2027-03-02T23:00")


@pytest.mark.parametrize(
    ("anchor", "first", "before", "at"),
    [
        pytest.param(1, "2027-01-31T12:00", "2027-01-31T23:59:59", "2027-02-01", id="a calendar month, not 30 days"),
        pytest.param(1, "2027-02-01T12:00", "2027-02-28T23:59:59", "2027-03-01", id="February has 28 days"),
        pytest.param(15, "2027-01-15T12:00", "2027-02-14T23:59:59", "2027-02-15", id="from the 15th, not 30 days"),
        pytest.param(31, "2027-01-31T12:00", "2027-02-27T23:59:59", "2027-02-28", id="from the 31st"),
    ],
)
async def test_a_month_is_the_month_of_the_bill(books: Books, anchor: int, first: str, before: str, at: str) -> None:
    """A month was 30 days, whatever the calendar or the day of payment said: BerriAI/litellm #9098, #4042, #4196."""
    await books.limit(BOUND, period=Period.MONTHLY, month_anchor=anchor)
    await spend(books, first)
    await free_from(books, before, at)


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param({"tags": {"team": "x"}}, id="a team"),
        pytest.param({"user": "ada"}, id="an end user"),
        pytest.param({"user": "ada", "tags": {"team": "x"}}, id="a member of a team"),
        pytest.param({"component": "rhetor"}, id="a component"),
        pytest.param({}, id="everybody"),
    ],
)
async def test_who_was_over_budget_may_spend_again_in_the_next_window(books: Books, scope: dict[str, Any]) -> None:
    """
    Some kinds of budgets were never reset.

    Teams: BerriAI/litellm #8364; end users: #5651, #7129, #24675, #39726; members of teams: #16057.
    """
    call = {"user": "ada", "tags": {"team": "x"}}
    turn(books, utc("2027-03-02T12:00"))
    await books.limit(BOUND, scope=scope)
    await books.settle(usage(**call))
    assert not (await ask(books, **call))["allowed"]
    turn(books, utc("2027-03-03T00:00"))
    assert (await ask(books, **call))["allowed"]


async def test_a_budget_that_is_given_a_period_counts_only_what_is_spent_in_it(books: Books) -> None:
    """A key that was given a duration kept its old spend and was over budget at once: BerriAI/litellm #34270."""
    now = datetime.now(UTC)
    total = await books.limit(2 * BOUND, period=Period.TOTAL)
    await books.settle(*(usage(occurred_at=(now - timedelta(days=40)).isoformat()) for _ in range(10)))
    assert not (await ask(books))["allowed"]
    daily = replace(total.spec, period=Period.DAILY)
    changed, created = await set_limit(books.pool, daily, actor="test", budget_id=total.budget_id)
    assert not created
    assert (await ask(books))["allowed"]
    assert await books.balance(changed) == (0, BOUND, 0)
    await books.assert_exact()


@pytest.mark.parametrize(
    ("week_start", "before", "at"),
    [
        pytest.param(0, "2027-03-07T23:59:59", "2027-03-08", id="Monday"),
        pytest.param(6, "2027-03-06T23:59:59", "2027-03-07", id="Sunday"),
        pytest.param(3, "2027-03-03T23:59:59", "2027-03-04", id="Thursday"),
    ],
)
async def test_a_week_begins_on_the_day_that_one_wants(books: Books, week_start: int, before: str, at: str) -> None:
    """A week could only begin on Monday: BerriAI/litellm #33161."""
    await books.limit(BOUND, period=Period.WEEKLY, week_start=week_start)
    await spend(books, "2027-03-02T12:00")
    await free_from(books, before, at)


@pytest.mark.parametrize(
    ("period", "resets_at", "retry_after_s"),
    [
        (Period.HOURLY, "2027-03-02T16:00:00Z", 1020),
        (Period.DAILY, "2027-03-03T00:00:00Z", 29_820),
        (Period.WEEKLY, "2027-03-08T00:00:00Z", 461_820),
        (Period.MONTHLY, "2027-04-01T00:00:00Z", 2_535_420),
        (Period.TOTAL, None, None),
    ],
)
async def test_a_refusal_says_when_the_budget_is_free_again(
    books: Books, period: Period, resets_at: str | None, retry_after_s: int | None
) -> None:
    """Users want the date of the reset in the error: BerriAI/litellm PR 10022."""
    await books.limit(BOUND, period=period)
    await spend(books, "2027-03-02T15:43")
    denied = await ask(books)
    assert (denied["allowed"], denied["resets_at"], denied["retry_after_s"]) == (False, resets_at, retry_after_s)


async def test_a_service_that_was_off_for_months_has_missed_no_reset(books: Books) -> None:
    """A script had to find the customers whose reset had been missed: polarsource/polar PR 13598."""
    budgets = [
        await books.limit(BOUND, period=period, name=period.value)
        for period in (Period.HOURLY, Period.DAILY, Period.WEEKLY, Period.MONTHLY)
    ]
    await spend(books, "2027-03-02T12:00")
    turn(books, utc("2027-07-20T12:00"))
    assert (await ask(books))["allowed"]
    for budget in budgets:
        assert await books.balance(budget, utc("2027-03-02T12:00")) == (COST, 0, 0)
        assert await books.balance(budget) == (0, BOUND, 0)
    await books.assert_exact()
