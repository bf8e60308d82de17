"""
What users of other budget services saw of money that was set aside and never came back, told again of this one.

They were refused with an empty bill, because what a call might cost was written onto the counter of what calls had
cost, and something kept it from being taken off. Each test says whose complaint it is. Nothing here zeroes a
counter, so what a reset does to one (BerriAI/litellm #39726, PR 39729, PR 40940) is told of in test_midnight.py.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from budget_bus.consumers.holds import HoldKeeper
from budget_bus.events.topics import HOLD_RELEASED
from budget_bus.policy.budget import Policy
from budget_bus.store.catalogue import Catalogue
from tests.integration.books import BOUND, COST, USD, Books, check, usage

NOON = datetime(2027, 3, 2, 12, tzinfo=UTC)
TTL = timedelta(seconds=600)


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool, clock=lambda: NOON)


def turn(books: Books, at: datetime) -> None:
    """Stop the clock of the consumers at *at*."""
    books.clock = lambda: at


def keeper(books: Books) -> HoldKeeper:
    return HoldKeeper(books.pool, Catalogue(Policy.WARN), books.clock)


async def release(books: Books, asked: dict[str, Any]) -> None:
    batch = await books.batch(HOLD_RELEASED, [{"request_id": asked["request_id"], "component": "rhetor"}])
    await keeper(books).apply(batch, None)
    books.applied(batch)


async def pass_by(books: Books, time: timedelta) -> None:
    """Let *time* pass with the settler at work, and end the holds whose end came in it."""
    turn(books, books.clock() + time)
    await books.settle()
    await keeper(books).expire_once()


async def allowed(books: Books) -> bool:
    (answer,) = await books.ask(check())
    return bool(answer["allowed"])


async def test_a_hundred_calls_that_were_paid_leave_nothing_held(books: Books) -> None:
    """Each reservation left a little on the counter in Redis until keys were refused: BerriAI/litellm #27639."""
    budget = await books.limit(10 * USD)
    for _ in range(10):
        answers = await books.ask(*(check() for _ in range(10)))
        await books.settle(*(usage(request_id=answer["request_id"]) for answer in answers))
    assert await books.balance(budget) == (100 * COST, 0, 0)


async def test_under_sustained_load_what_is_enforced_is_the_ledger_to_the_last_nano(books: Books) -> None:
    """
    The counter ran 1.87 % above the database in normal running and keys were refused: BerriAI/litellm #36926.

    So it was with stale counters: #27735.
    """
    budget = await books.limit(100 * USD)
    dice = random.Random(7)  # the same load every time
    for _ in range(20):
        asked = [check() for _ in range(5)]
        await books.ask(*asked)
        for question in asked:
            match dice.choice(["pay", "pay twice", "pay later", "void", "die", "pay unasked"]):
                case "pay":
                    await books.settle(usage(request_id=question["request_id"], output_tokens=dice.randrange(500)))
                case "pay twice":
                    event = usage(request_id=question["request_id"])
                    await books.settle(event, event)
                case "pay later":
                    await pass_by(books, TTL + timedelta(seconds=1))
                    await books.settle(usage(request_id=question["request_id"]))
                case "void":
                    await release(books, question)
                case "pay unasked":
                    await books.settle(usage(component="ergon", input_tokens=dice.randrange(5000)))
                case _:
                    pass
    await pass_by(books, TTL + timedelta(seconds=1))
    spent, held, _ = await books.balance(budget)
    assert (spent, held) == (await books.pool.fetchval("SELECT sum(cost_nanos)::bigint FROM ledger"), 0)
    await books.assert_exact()


async def test_a_call_is_not_charged_as_a_hold_and_as_usage(books: Books) -> None:
    """A key with $55.74 of real spend was enforced at $111.29, about twice: BerriAI/litellm #40050."""
    budget = await books.limit(BOUND + COST)
    assert await allowed(books)
    await books.settle(usage())
    (answer,) = await books.ask(check())
    assert answer["allowed"]
    (line,) = answer["budgets"]
    assert (line["spent"], line["held"], line["available"]) == ("0.0035", "0.01", "0")
    assert await books.balance(budget) == (COST, BOUND, 0)


async def test_large_estimates_pin_a_budget_only_as_long_as_their_calls_last(books: Books) -> None:
    """Agents' worst cases pinned $25 at exactly 25.000000000000004 while the log said $0: BerriAI/litellm PR 38647."""
    budget = await books.limit(25 * USD)
    asked = [check(estimated_tokens=1_000_000) for _ in range(3)]  # $10 each
    first, second, third = await books.ask(*asked)
    assert (first["allowed"], second["allowed"], third["allowed"]) == (True, True, False)
    (line,) = third["budgets"]
    assert (line["spent"], line["held"], line["available"]) == ("0", "20", "5")
    await books.settle(*(usage(request_id=question["request_id"]) for question in asked[:2]))
    assert await books.balance(budget) == (2 * COST, 0, 0)
    (again,) = await books.ask(check(estimated_tokens=1_000_000))
    assert again["allowed"]


async def test_a_hold_whose_asker_died_is_no_phantom_rejection_where_nothing_is_hard(books: Books) -> None:
    """A pod that was killed in mid-stream left its reservation on the counter: BerriAI/litellm PR 30330."""
    soft = await books.limit(BOUND, policy=Policy.SOFT_LIMIT, ceiling_percent=100)
    assert await allowed(books)
    assert not await allowed(books)
    await pass_by(books, TTL + timedelta(seconds=1))
    assert await books.balance(soft) == (0, 0, 0)
    assert await allowed(books)


async def test_a_hold_whose_asker_died_is_no_phantom_rejection_for_ever(books: Books) -> None:
    """
    The same on a hard limit: BerriAI/litellm PR 30330.

    Nobody knows whether the call was made, so it is charged; the refusal names it as unconfirmed, an operator can
    resolve it, and the next window knows nothing of it.
    """
    hard = await books.limit(BOUND)
    asked = check()
    await books.ask(asked)
    await pass_by(books, TTL + timedelta(seconds=1))
    (denied,) = await books.ask(check())
    assert not denied["allowed"]
    assert (denied["budgets"][0]["spent"], denied["budgets"][0]["unconfirmed"]) == ("0", "0.01")
    turn(books, NOON + timedelta(days=1))
    assert await allowed(books)
    turn(books, NOON + timedelta(hours=1))
    await release(books, asked)
    assert await books.balance(hard) == (0, 0, 0)
    assert await allowed(books)


Step = Callable[[Books, dict[str, Any]], Awaitable[None]]


async def _pay(books: Books, asked: dict[str, Any]) -> None:
    # The same event each time, so that the second is a duplicate.
    await books.settle(usage(event_id=asked["request_id"], request_id=asked["request_id"]))


async def _release(books: Books, asked: dict[str, Any]) -> None:
    await release(books, asked)


async def _outlive(books: Books, _asked: dict[str, Any]) -> None:
    await pass_by(books, TTL + timedelta(seconds=1))


_WORDS: dict[Step, str] = {_pay: "paid", _release: "given back", _outlive: "outlived"}
_ORDERS = dict.fromkeys(itertools.permutations([_pay, _pay, _release, _outlive]))


@pytest.mark.parametrize("steps", [pytest.param(o, id=", ".join(_WORDS[step] for step in o)) for o in _ORDERS])
async def test_no_counter_becomes_negative_or_sticks_when_a_hold_ends_in_several_ways(
    books: Books, steps: tuple[Step, ...]
) -> None:
    """Counters below zero (BerriAI/litellm PR 30330), and a second refund for one call (mozilla-ai/otari PR 767)."""
    budget = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    for step in steps:
        await step(books, asked)
    assert await books.balance(budget) == (COST, 0, 0)
    await books.assert_exact()


async def test_a_leaked_hold_is_found_and_reclaimed_by_its_id(books: Books) -> None:
    """A leaked hold could not be reclaimed by identity: mozilla-ai/otari #742."""
    budget = await books.limit(3 * BOUND)
    lost, other = check(), check()
    await books.ask(lost, other)
    rows = await books.pool.fetch("SELECT request_id::text FROM hold WHERE state = 'open'")
    assert {row["request_id"] for row in rows} == {lost["request_id"], other["request_id"]}
    await release(books, lost)
    assert await books.balance(budget) == (0, BOUND, 0)
    states = await books.pool.fetch("SELECT state FROM hold WHERE request_id = $1", lost["request_id"])
    assert [row["state"] for row in states] == ["voided"]


async def test_usage_after_the_end_of_its_hold_is_not_added_to_what_was_left_of_it(books: Books) -> None:
    """When giving back failed, the reservation and the cost stood side by side: BerriAI/litellm #35569."""
    budget = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    await pass_by(books, TTL + timedelta(seconds=1))
    assert await books.balance(budget) == (0, 0, BOUND)
    await books.settle(usage(request_id=asked["request_id"]))
    assert await books.balance(budget) == (COST, 0, 0)


async def test_a_call_that_cost_more_than_its_hold_is_charged_in_full(books: Books) -> None:
    """What a cap on reservations lets pass beyond it must still be recorded: BerriAI/litellm PR 38647."""
    budget = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    await books.settle(usage(request_id=asked["request_id"], input_tokens=100_000))
    spent, held, unconfirmed = await books.balance(budget)
    assert spent > BOUND
    assert (held, unconfirmed) == (0, 0)
    await books.assert_exact()


async def test_usage_that_comes_before_its_check_is_decided_leaves_no_phantom(books: Books) -> None:
    """A settlement that overtakes its reservation finds nothing to settle, and the reservation stays."""
    budget = await books.limit(10 * USD)
    asked = check()
    await books.settle(usage(request_id=asked["request_id"]))
    await books.ask(asked)
    await pass_by(books, TTL + timedelta(seconds=1))
    assert await books.balance(budget) == (COST, 0, 0)
