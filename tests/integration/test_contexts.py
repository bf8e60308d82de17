"""Budgets per context: each run has its own window, begun by its first call and over after its time to live."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from budget_bus.consumers.checks import Decider
from budget_bus.consumers.incoming import call_of
from budget_bus.events.checks import CheckRequested
from budget_bus.policy.budget import Budget, Policy, Unit
from budget_bus.policy.windows import Period
from budget_bus.store import contexts
from tests.integration.books import BOUND, COST, Books, check, usage
from tests.integration.clock import Clock

TTL_S = 3600


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def books(pool: asyncpg.Pool, clock: Clock) -> Books:
    return Books(pool, clock=clock)


async def template(books: Books, amount: int, **fields: Any) -> Budget:
    """*amount* calls for each context."""
    values = {"unit": Unit.REQUESTS, "period": Period.PER_CONTEXT, "context_ttl_s": TTL_S, "name": "run", **fields}
    return await books.limit(amount, **values)


async def admitted(books: Books, n: int, context: str | None, **fields: Any) -> int:
    answers = await books.ask(*(check(context_id=context, **fields) for _ in range(n)))
    return sum(answer["allowed"] for answer in answers)


async def windows(books: Books, budget: Budget) -> list[tuple[str, int, int]]:
    """context, spent and held of each window."""
    rows = await books.pool.fetch(
        "SELECT context_id, spent, held FROM balance WHERE budget_id = $1 ORDER BY context_id, window_start",
        budget.budget_id,
    )
    return [(row["context_id"], row["spent"], row["held"]) for row in rows]


async def test_each_context_has_a_budget_of_its_own(books: Books) -> None:
    budget = await template(books, 2)
    assert await admitted(books, 3, "a") == 2
    assert await admitted(books, 3, "b") == 2
    assert await windows(books, budget) == [("a", 0, 2), ("b", 0, 2)]


async def test_a_call_without_a_context_is_not_bound_by_it(books: Books) -> None:
    budget = await template(books, 0)
    assert await admitted(books, 2, None) == 2
    assert await windows(books, budget) == []


async def test_the_answer_says_whose_window_it_is_about_and_when_it_ends(books: Books, clock: Clock) -> None:
    await template(books, 0)
    (answer,) = await books.ask(check(context_id="a"))
    ends = (clock() + timedelta(seconds=TTL_S)).isoformat().replace("+00:00", "Z")
    assert (answer["allowed"], answer["resets_at"], answer["retry_after_s"]) == (False, ends, TTL_S)


async def test_a_context_that_comes_back_after_its_time_begins_anew(books: Books, clock: Clock) -> None:
    budget = await template(books, 2)
    assert await admitted(books, 3, "a") == 2
    clock.turn(seconds=TTL_S - 1)
    assert await admitted(books, 1, "a") == 0
    clock.turn(seconds=1)
    assert await admitted(books, 3, "a") == 2
    assert await windows(books, budget) == [("a", 0, 2), ("a", 0, 2)]


async def test_usage_and_checks_share_the_context_s_window(books: Books, clock: Clock) -> None:
    budget = await template(books, 2 * BOUND, unit=Unit.COST)
    asked = check(context_id="a")
    await books.ask(asked)
    clock.turn(minutes=1)
    await books.settle(usage(request_id=asked["request_id"], context_id="a", occurred_at=clock().isoformat()))
    await books.settle(usage(context_id="a", occurred_at=clock().isoformat()))
    assert await windows(books, budget) == [("a", 2 * COST, 0)]
    await books.assert_exact()


async def test_a_budget_made_while_a_run_is_under_way_counts_what_it_used_before(books: Books, clock: Clock) -> None:
    await books.settle(usage(context_id="a", occurred_at=clock().isoformat()), usage(context_id="b"))
    asked = check(context_id="a")
    await books.ask(asked)
    clock.turn(minutes=1)
    budget = await template(books, 100)
    await books.ask(check(context_id="a"))
    assert await windows(books, budget) == [("a", 1, 2)]
    (start,) = [r["window_start"] for r in await books.pool.fetch("SELECT window_start FROM balance")]
    assert start == clock() - timedelta(minutes=1)


async def test_late_usage_from_before_a_run_s_window_gets_one_that_ends_where_it_begins(
    books: Books, clock: Clock
) -> None:
    budget = await template(books, 100)
    await books.settle(usage(context_id="a", occurred_at=clock().isoformat()))
    early = clock() - timedelta(minutes=5)
    await books.settle(usage(context_id="a", occurred_at=early.isoformat()))
    rows = await books.pool.fetch("SELECT window_start, window_end, spent FROM balance ORDER BY window_start")
    assert [(r["window_start"], r["window_end"], r["spent"]) for r in rows] == [
        (early, clock(), 1),
        (clock(), clock() + timedelta(seconds=TTL_S), 1),
    ]
    assert await windows(books, budget) == [("a", 1, 0), ("a", 1, 0)]
    await books.assert_exact()


async def test_deciders_that_meet_a_new_context_at_once_admit_no_more_than_its_limit(
    books: Books, clock: Clock
) -> None:
    """Their clocks differ, so each alone would begin the context's window at another instant."""
    budget = await template(books, 5)
    deciders = [replace(books.decider(), clock=Clock(clock() + timedelta(seconds=part))) for part in range(4)]
    for part in range(4):
        await books.claim("check.requested", part)
    await books.ask()  # somebody reads usage
    answers = await asyncio.gather(
        *(
            books.ask(*(check(context_id="a") for _ in range(5)), part=part, by=decider)
            for part, decider in enumerate(deciders)
        )
    )
    decided = {answer["request_id"]: answer["allowed"] for some in answers for answer in some}
    assert sum(decided.values()) == sum(held for _, _, held in await windows(books, budget))
    rows = await books.pool.fetch("SELECT window_start, window_end, held FROM balance ORDER BY window_start")
    for row, after in pairwise(rows):
        assert row["window_end"] <= after["window_start"]
    assert rows[-1]["held"] == 5


async def test_a_window_whose_transaction_was_rolled_back_is_begun_again(books: Books) -> None:
    budget = await template(books, 5)
    by = books.decider()
    await books.ask(by=by)

    async with books.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await _resolve(connection, by)
        await transaction.rollback()
    # Another one begins the context's window meanwhile, earlier than what was rolled back.
    assert await admitted(books, 1, "a") == 1
    answers = await books.ask(check(context_id="a"), by=by)
    assert answers[0]["allowed"]
    assert await windows(books, budget) == [("a", 0, 2)]


async def _resolve(connection: asyncpg.Connection, by: Decider) -> None:
    await by.catalogue.refresh(connection)
    call = call_of(CheckRequested.model_validate(check(context_id="a"), strict=False))
    await contexts.resolve(connection, by.catalogue, [(call, by.clock() + timedelta(seconds=1))])


async def test_runs_are_nested_under_the_day(books: Books) -> None:
    await template(books, 3)
    await books.limit(4, unit=Unit.REQUESTS)
    assert await admitted(books, 5, "a") == 3
    assert await admitted(books, 5, "b") == 1


async def test_alerts_of_two_runs_are_two_alerts(books: Books, clock: Clock) -> None:
    await template(books, 1, policy=Policy.WARN, thresholds=(100,))
    at = clock().isoformat()
    await books.settle(*(usage(context_id=context, occurred_at=at) for context in ("a", "b", "a")))
    rows = await books.pool.fetch("SELECT payload FROM alert ORDER BY context_id")
    assert [row["payload"]["context_id"] for row in rows] == ["a", "b"]
    assert len({row["payload"]["alert_id"] for row in rows}) == 2
