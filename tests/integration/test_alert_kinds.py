"""Alerts besides those of a spent threshold: on what is committed, on recovery, on overruns and unasked usage."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from budget_bus.consumers.holds import HoldKeeper
from budget_bus.events.decode import decode
from budget_bus.events.facts import BudgetAlert
from budget_bus.events.topics import BUDGET_ALERTS, HOLD_RELEASED
from budget_bus.policy.budget import Basis, Budget, Policy, Unit
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.limits import raise_limit
from tests.integration.books import BOUND, COST, USD, Books, check, usage
from tests.integration.clock import Clock

BOTH = (Basis.SPENT, Basis.COMMITTED)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def books(pool: asyncpg.Pool, clock: Clock) -> Books:
    return Books(pool, clock=clock)


async def calls(books: Books, amount: int, **fields: Any) -> Budget:
    return await books.limit(amount, unit=Unit.REQUESTS, **fields)


async def alerts(books: Books) -> list[tuple[str, int, str]]:
    """type, percent and basis of what is queued for budget.alerts, in order; each is what the schema says."""
    rows = await books.pool.fetch("SELECT value FROM outbox WHERE topic = $1 ORDER BY outbox_id", BUDGET_ALERTS)
    told = [decode(BudgetAlert, row["value"]) for row in rows]
    return [(alert.type, alert.threshold_percent, alert.basis) for alert in told]


async def release(books: Books, asked: dict[str, Any]) -> None:
    keeper = HoldKeeper(books.pool, Catalogue(Policy.WARN), books.clock)
    batch = await books.batch(HOLD_RELEASED, [{"request_id": asked["request_id"], "component": "rhetor"}])
    await keeper.apply(batch, None)
    books.applied(batch)


def used(clock: Clock, **fields: Any) -> dict[str, Any]:
    return usage(occurred_at=clock().isoformat(), **fields)


async def test_a_budget_that_is_held_to_its_limit_alerts_before_anything_is_spent(books: Books) -> None:
    await calls(books, 2, alert_on=BOTH, thresholds=(50, 100))
    await books.ask(check(), check())
    assert await alerts(books) == [
        ("request_limit_approaching", 50, "committed"),
        ("request_limit_exceeded", 100, "committed"),
    ]


async def test_by_default_only_what_is_spent_alerts(books: Books) -> None:
    await calls(books, 2)
    await books.ask(check(), check())
    assert await alerts(books) == []


async def test_one_threshold_on_two_bases_is_two_alerts(books: Books, clock: Clock) -> None:
    await calls(books, 1, alert_on=BOTH, thresholds=(100,))
    asked = check()
    await books.ask(asked)
    await books.settle(used(clock, request_id=asked["request_id"]))
    assert await alerts(books) == [
        ("request_limit_exceeded", 100, "committed"),
        ("request_limit_exceeded", 100, "spent"),
    ]


async def test_holds_that_are_given_back_recover_the_budget_and_going_back_and_forth_does_not_flood(
    books: Books,
) -> None:
    await calls(books, 2, alert_on=(Basis.COMMITTED,), thresholds=(100,))
    for _ in range(3):
        first, second = check(), check()
        await books.ask(first, second)
        await release(books, first)
        await release(books, second)
    assert await alerts(books) == [
        ("request_limit_exceeded", 100, "committed"),
        ("request_limit_recovered", 100, "committed"),
    ]


async def test_a_raised_limit_recovers_and_alerts_anew_when_it_is_reached(books: Books, clock: Clock) -> None:
    budget = await calls(books, 2, policy=Policy.WARN, thresholds=(50, 100))
    await books.settle(used(clock), used(clock))
    await raise_limit(books.pool, budget.budget_id, 10, until=clock() + timedelta(hours=1), actor="ada", now=clock())
    await books.settle(used(clock))  # 3 of 12
    assert (await alerts(books))[2:] == [
        ("request_limit_recovered", 50, "spent"),
        ("request_limit_recovered", 100, "spent"),
    ]
    await books.settle(*(used(clock) for _ in range(3)))  # 6 of 12
    assert (await alerts(books))[4:] == [("request_limit_approaching", 50, "spent")]


async def test_without_the_remembered_state_nothing_would_recover(books: Books, clock: Clock) -> None:
    await calls(books, 2, alert_on=(Basis.COMMITTED,), thresholds=(100,))
    asked = check()
    await books.ask(asked, check())
    await books.pool.execute("UPDATE balance SET committed_reached = 0")
    await release(books, asked)
    assert await alerts(books) == [("request_limit_exceeded", 100, "committed")]


async def test_a_call_that_costs_more_than_its_hold_is_alerted_once_and_recorded(books: Books, clock: Clock) -> None:
    await books.limit(100 * USD)
    for _ in range(3):
        asked = check()
        await books.ask(asked)
        await books.settle(used(clock, request_id=asked["request_id"], output_tokens=2000))
    assert await alerts(books) == [("estimate_overrun", 0, "spent")]
    rows = await books.pool.fetch("SELECT overrun_nanos, overrun_tokens FROM hold")
    beyond = 2_500_000 + 20_000_000 - BOUND  # 1,000 + 2,000 tokens of gpt-4o, of which 1,000 in all were asked for
    assert [tuple(row) for row in rows] == [(beyond, 2000)] * 3
    await books.assert_exact()


async def test_a_call_within_its_hold_is_no_overrun(books: Books, clock: Clock) -> None:
    await books.limit(100 * USD)
    asked = check(estimated_tokens=1100)
    await books.ask(asked)
    await books.settle(used(clock, request_id=asked["request_id"]))
    assert await alerts(books) == []
    assert await books.pool.fetchval("SELECT overrun_nanos IS NULL AND overrun_tokens IS NULL FROM hold")


async def test_usage_that_did_not_ask_is_alerted_once_on_hard_budgets_alone(books: Books, clock: Clock) -> None:
    hard = await books.limit(100 * COST, name="hard")
    await books.limit(100 * COST, policy=Policy.WARN, scope={"component": "rhetor"})
    await books.limit(100 * COST, shadow=True, scope={"provider": "openai"})
    await books.settle(used(clock), used(clock))
    await books.settle(used(clock))
    assert await alerts(books) == [("unreserved_usage", 0, "spent")]
    row = await books.pool.fetchrow("SELECT budget_id, payload FROM alert")
    assert row["budget_id"] == hard.budget_id
    assert "had not asked" in row["payload"]["message"]


async def test_a_changed_limit_does_not_tell_of_overruns_and_unasked_usage_again(books: Books, clock: Clock) -> None:
    budget = await books.limit(100 * COST)
    await books.settle(used(clock))
    await raise_limit(books.pool, budget.budget_id, USD, until=clock() + timedelta(hours=1), actor="ada", now=clock())
    await books.settle(used(clock))
    assert await alerts(books) == [("unreserved_usage", 0, "spent")]


async def test_an_ignored_budget_alerts_of_nothing(books: Books, clock: Clock) -> None:
    await calls(books, 1, policy=Policy.IGNORE, alert_on=BOTH)
    await books.ask(check())
    await books.settle(used(clock), used(clock))
    assert await alerts(books) == []


async def test_a_raise_that_ends_is_noticed_with_the_next_change(books: Books, clock: Clock) -> None:
    budget = await calls(books, 1, policy=Policy.WARN, thresholds=(100,))
    await raise_limit(books.pool, budget.budget_id, 9, until=clock() + timedelta(hours=1), actor="ada", now=clock())
    await books.settle(used(clock))
    assert await alerts(books) == []
    clock.turn(hours=1)
    await books.settle(used(clock))
    assert await alerts(books) == [("request_limit_exceeded", 100, "spent")]
