"""
Leases: what the books do with them, and a bus that admits from them.

The first tests hand messages to settler, decider and keeper, in any order and with a clock that can be turned; the
others run a bus with leases on a real broker.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from budget_bus.consumers.holds import HoldKeeper
from budget_bus.errors import BudgetExceeded, BudgetUnavailable
from budget_bus.events.topics import HOLD_EXTENDED, HOLD_RELEASED
from budget_bus.policy.budget import Budget, Policy, Unit
from budget_bus.producers import BudgetBus, Lease
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings
from budget_bus.store.catalogue import Catalogue
from tests.integration.books import BOUND, COST, USD, Books, check, usage

NOON = datetime(2027, 3, 2, 12, tzinfo=UTC)
SCOPE: dict[str, Any] = {"component": "rhetor", "provider": "openai", "model": "gpt-4o"}
SIZE: dict[str, Any] = {"input_tokens": 1000, "max_output_tokens": 200}
PRICE = 4_500_000  # nanos of a call of that size
PATIENT_S = 30.0  # the first question also waits until the decider has joined its group


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool, clock=lambda: NOON)


def keeper(books: Books) -> HoldKeeper:
    return HoldKeeper(books.pool, Catalogue(Policy.WARN), books.clock)


def lease(calls: int, **fields: Any) -> dict[str, Any]:
    return check(lease_calls=calls, hold_ttl_s=30, **fields)


async def tell(books: Books, topic: str, asked: dict[str, Any], **fields: Any) -> None:
    batch = await books.batch(topic, [{"request_id": asked["request_id"], "component": "rhetor", **fields}])
    await keeper(books).apply(batch, None)
    books.applied(batch)


async def give_back(books: Books, asked: dict[str, Any], calls: int, *, tokens: int, nanos: int) -> None:
    unused = {"cost": f"{nanos / USD:.9f}", "tokens": tokens, "requests": calls}
    await tell(books, HOLD_RELEASED, asked, unused=unused)


async def pass_by(books: Books, time: timedelta) -> None:
    """Let *time* pass with the settler at work, and end the holds whose end came in it."""
    now = books.clock() + time
    books.clock = lambda: now
    await books.settle()
    await keeper(books).expire_once()


async def test_a_lease_holds_many_calls_and_usage_settles_them_one_by_one(books: Books) -> None:
    budget = await books.limit(100 * BOUND)
    asked = lease(10)
    (answer,) = await books.ask(asked)
    assert (answer["lease"]["calls"], answer["lease"]["tokens"], answer["lease"]["cost"]) == (10, 10_000, "0.1")
    assert await books.balance(budget) == (0, 10 * BOUND, 0)
    for used in (1, 2, 3):
        await books.settle(usage(request_id=asked["request_id"], input_tokens=900))
        assert await books.balance(budget) == (3_250_000 * used, 10 * BOUND - 3_250_000 * used, 0)
    await books.assert_exact()


@pytest.mark.parametrize(
    ("limit", "calls"),
    [(100, 10), (40, 10), (39, 9), (8, 2), (7, 1), (1, 1)],
    ids=["all", "a quarter", "less near the limit", "two", "one, exactly", "the last one"],
)
async def test_a_lease_shrinks_to_exact_grants_near_the_limit(books: Books, limit: int, calls: int) -> None:
    budget = await books.limit(limit * BOUND)
    (answer,) = await books.ask(lease(10))
    assert answer["lease"]["calls"] == calls
    assert await books.balance(budget) == (0, calls * BOUND, 0)


async def test_a_lease_past_the_limit_is_denied_as_one_call_is(books: Books) -> None:
    await books.limit(BOUND - 1)
    leased, plain = await books.ask(lease(10), check())
    assert (leased["allowed"], leased["lease"], leased["hold"]) == (False, None, None)
    assert leased["reason"] == plain["reason"]


async def test_unused_parts_come_back_once_however_often_they_are_told(books: Books) -> None:
    budget = await books.limit(100 * BOUND)
    asked = lease(10)
    await books.ask(asked)
    for calls in (4, 4, 3, 6, 6):
        await give_back(books, asked, calls, tokens=calls * 1000, nanos=calls * BOUND)
    assert await books.balance(budget) == (0, 4 * BOUND, 0)
    await books.assert_exact()


@pytest.mark.parametrize("usage_first", [True, False], ids=["usage first", "release first"])
async def test_usage_and_release_may_overtake_each_other(books: Books, usage_first: bool) -> None:
    budget = await books.limit(100 * BOUND)
    asked = lease(10)
    await books.ask(asked)
    settle = books.settle(*(usage(request_id=asked["request_id"]) for _ in range(4)))
    release = give_back(books, asked, 5, tokens=5000, nanos=5 * BOUND)
    for step in (settle, release) if usage_first else (release, settle):
        await step
    assert await books.balance(budget) == (4 * COST, 5 * BOUND - 4 * COST, 0)
    await books.assert_exact()


async def test_an_event_beyond_what_is_left_of_its_lease_counts_and_alerts_as_overrun(
    books: Books, pool: asyncpg.Pool
) -> None:
    budget = await books.limit(4 * BOUND)
    asked = lease(1)
    await books.ask(asked)
    await books.settle(*(usage(request_id=asked["request_id"], input_tokens=3000) for _ in range(2)))
    assert await books.balance(budget) == (2 * 8_500_000, 0, 0)
    assert await pool.fetchval("SELECT count(*) FROM alert WHERE kind = 'estimate_overrun'") == 1
    await books.assert_exact()


@pytest.mark.parametrize(
    ("policy", "left"), [(Policy.WARN, 0), (Policy.HARD_LIMIT, 9 * BOUND - COST)], ids=["warn", "hard"]
)
async def test_what_a_dead_lessee_leaves_comes_back_only_where_nothing_is_at_stake(
    books: Books, policy: Policy, left: int
) -> None:
    budget = await books.limit(100 * BOUND, policy=policy)
    asked = lease(10)
    await books.ask(asked)
    await books.settle(usage(request_id=asked["request_id"]))
    await give_back(books, asked, 1, tokens=1000, nanos=BOUND)
    await pass_by(books, timedelta(seconds=31))
    assert await books.balance(budget, NOON) == (COST, 0, left)
    # Its calls that are heard of late settle their parts all the same.
    await books.settle(usage(request_id=asked["request_id"], occurred_at=NOON.isoformat()))
    assert await books.balance(budget, NOON) == (2 * COST, 0, max(0, left - COST))
    await books.assert_exact()


async def test_a_lease_lives_as_long_as_it_is_prolonged(books: Books) -> None:
    budget = await books.limit(100 * BOUND)
    asked = lease(10)
    await books.ask(asked)
    await tell(books, HOLD_EXTENDED, asked, expires_at=(NOON + timedelta(seconds=90)).isoformat())
    await pass_by(books, timedelta(seconds=60))
    assert await books.balance(budget, NOON) == (0, 10 * BOUND, 0)
    await pass_by(books, timedelta(seconds=31))
    assert await books.balance(budget, NOON) == (0, 0, 10 * BOUND)


async def test_of_a_lease_whose_calls_have_all_ended_nothing_stays_held(books: Books) -> None:
    """A call of claude costs less than its bound, which its lessee cannot know: at the end that comes back as well."""
    budget = await books.limit(100 * USD)
    asked = lease(3, provider="anthropic", model="claude-sonnet-4-5")
    (answer,) = await books.ask(asked)
    event = {"provider": "anthropic", "model": "claude-sonnet-4-5", "request_id": asked["request_id"]}
    await books.settle(usage(**event), usage(**event))
    spent, held, _ = await books.balance(budget)
    assert held == Decimal(answer["lease"]["cost"]) * USD - spent
    await give_back(books, asked, 1, tokens=1000, nanos=1)
    assert await books.balance(budget) == (spent, 0, 0)
    await pass_by(books, timedelta(seconds=31))
    assert await books.balance(budget, NOON) == (spent, 0, 0)
    await books.assert_exact()


# From here on: a bus with leases on a real broker.


@pytest.fixture
async def live(kafka: str, settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[Books]:
    """Books to make limits and to look at balances, while a real settler and decider keep them."""
    await apply_topics(settings)
    async with settler(settings), decider(settings):
        yield Books(pool)


@asynccontextmanager
async def leasing(settings: Settings, **fields: int) -> AsyncIterator[BudgetBus]:
    """A bus with leases that a decider has answered once."""
    async with BudgetBus.from_settings(settings, lease=Lease(**{"calls": 20, **fields})) as bus:
        await bus.check(**SCOPE, **SIZE, hold=False, timeout_s=PATIENT_S)
        yield bus


async def until(books: Books, budget: Budget, expected: tuple[int, int, int]) -> None:
    """Wait for a balance; fails with the last one."""
    await eventually(lambda: books.balance(budget), expected)


async def eventually(look: Callable[[], Awaitable[Any]], expected: Any) -> None:
    seen = None
    try:
        async with asyncio.timeout(20):
            while (seen := await look()) != expected:  # noqa: ASYNC110 - what is awaited is in the books
                await asyncio.sleep(0.05)
    except TimeoutError:
        assert seen == expected


async def leases_of(books: Books, state: str = "open") -> int:
    return int(await books.pool.fetchval("SELECT count(*) FROM hold WHERE lease AND state = $1", state))


async def test_calls_are_admitted_without_asking_and_the_rest_comes_back(live: Books, settings: Settings) -> None:
    budget = await live.limit(1000 * PRICE)
    async with leasing(settings) as bus:
        lessee = await bus.lessee(**SCOPE)
        assert lessee.admit(1000, 200) is None, "there is no lease yet"
        first = await bus.check(**SCOPE, **SIZE)
        assert (first.allowed, first.estimate_source, first.budgets) == (True, "lease", [])
        tickets = [lessee.admit(1000, 200) for _ in range(9)]
        assert all(tickets)
        await until(live, budget, (0, 20 * PRICE, 0))
        assert await live.pool.fetchval("SELECT count(*) FROM decision WHERE answer <> ''") == 2
        for ticket in tickets[:4]:
            assert ticket
            await lessee.settle(ticket, input_tokens=1000, output_tokens=100)
        await until(live, budget, (4 * COST, 20 * PRICE - 4 * COST, 0))
        for ticket in tickets[4:]:
            assert ticket
            lessee.void(ticket)
        await bus.record(**SCOPE, input_tokens=1000, output_tokens=100, request_id=first.request_id)
    await until(live, budget, (5 * COST, 0, 0))
    await live.assert_exact()


async def test_a_guard_settles_and_voids_as_without_a_lease(live: Books, settings: Settings) -> None:
    budget = await live.limit(1000 * PRICE)
    async with leasing(settings) as bus:
        await bus.check(**SCOPE, **SIZE, hold=True)
        sources = []
        for _ in range(5):
            async with bus.guard(**SCOPE, **SIZE) as call:
                sources.append(call.decision.estimate_source)
                await call.settle(input_tokens=1000, output_tokens=100)
            with pytest.raises(RuntimeError, match="already"):
                await call.void()
        async with bus.guard(**SCOPE, **SIZE) as voided:
            await voided.void("not sent")
        async with bus.guard(**SCOPE, **SIZE) as left:
            pass
        assert sources == ["lease"] * 5
        await until(live, budget, (5 * COST, PRICE + 20 * PRICE - 5 * COST, 0))
    assert left.decision.estimate_source == "lease"
    # The first check was asked exactly and has its own hold; of the lease what nobody ended stays held.
    await until(live, budget, (5 * COST, 2 * PRICE, 0))
    await live.assert_exact()


async def test_the_first_call_of_its_kind_and_questions_with_wishes_are_asked_exactly(
    live: Books, settings: Settings
) -> None:
    await live.limit(1000 * PRICE)
    async with leasing(settings) as bus:
        for fields in (
            {**SCOPE, **SIZE, "user": "ann"},
            {**SCOPE, **SIZE, "request_id": uuid.uuid4()},
            {**SCOPE, **SIZE, "hold_ttl_s": 60},
            {**SCOPE, **SIZE, "hold": False},
            {**SCOPE, "input_tokens": 10},
            {**SCOPE, "input_text": "hello", "max_output_tokens": 5},
            {**SCOPE, **SIZE, "priority": "critical"},
        ):
            answer = await bus.check(**fields)
            assert (answer.estimate_source != "lease", len(answer.budgets)) == (True, 1), fields
        assert await leases_of(live) == 0
        assert (await bus.check(**SCOPE, **SIZE, user="ann")).estimate_source == "lease"


async def test_a_bare_total_is_leased_too(live: Books, settings: Settings) -> None:
    budget = await live.limit(1000 * BOUND)
    async with leasing(settings) as bus:
        first, second, third = [await bus.check(**SCOPE, estimated_tokens=1000) for _ in range(3)]
        assert [a.estimate_source for a in (first, second, third)] == ["estimated_tokens", "lease", "lease"]
        assert (second.estimated_cost, third.estimated_cost) == ("0.01", "0.01")
        await bus.record(**SCOPE, input_tokens=1000, output_tokens=100, request_id=third.request_id)
        await bus.release_hold(second.request_id, component="rhetor")
    await until(live, budget, (COST, BOUND, 0))


async def test_near_the_limit_every_call_is_decided_exactly(live: Books, settings: Settings) -> None:
    budget = await live.limit(50 * PRICE)
    calls = await live.limit(50, name="calls", unit=Unit.REQUESTS)
    async with leasing(settings) as bus:
        lessee = await bus.lessee(**SCOPE)
        admitted = 0
        while True:
            while lessee.admit(1000, 200):
                admitted += 1
            answer = await bus.check(**SCOPE, **SIZE)
            if not answer.allowed:
                break
            admitted += 1
        assert admitted == 50
        assert (answer.action, answer.budgets[0].available) == ("deny", "0")
        assert "would be exceeded" in (answer.reason or "")
        with pytest.raises(BudgetExceeded):
            async with bus.guard(**SCOPE, **SIZE):
                pytest.fail("a denied call was let through")
        await until(live, budget, (0, 50 * PRICE, 0))
        await until(live, calls, (0, 50, 0))


async def test_what_a_decision_warns_of_reaches_the_caller(live: Books, settings: Settings) -> None:
    await live.limit(2 * PRICE, policy=Policy.SOFT_LIMIT)
    async with leasing(settings) as bus:
        actions = [(await bus.check(**SCOPE, **SIZE)).action for _ in range(6)]
        assert actions == ["allow", "allow", "degrade", "degrade", "degrade", "degrade"]


async def test_a_lease_is_renewed_before_it_is_used_up(live: Books, settings: Settings) -> None:
    budget = await live.limit(10_000 * PRICE)
    async with leasing(settings, calls=30) as bus:
        lessee = await bus.lessee(**SCOPE)
        await bus.check(**SCOPE, **SIZE)
        before = lessee.current
        tickets = [lessee.admit(1000, 200) for _ in range(20)]
        assert all(tickets)
        assert lessee.wanted, "two thirds are used"
        await eventually(lambda: _value(lessee.current is not before), True)
        assert lessee.admit(1000, 200)
        # Of the old one what is free has gone back, its calls are held on.
        await until(live, budget, (0, (21 + 30) * PRICE, 0))
        for ticket in tickets:
            assert ticket
            lessee.void(ticket)
        await until(live, budget, (0, (1 + 30) * PRICE, 0))


async def test_a_lease_is_renewed_in_time_and_its_calls_are_held_on(live: Books, settings: Settings) -> None:
    budget = await live.limit(10_000 * PRICE)
    async with leasing(settings, ttl_s=2) as bus:
        lessee = await bus.lessee(**SCOPE)
        await bus.check(**SCOPE, **SIZE)
        ticket, first = lessee.admit(1000, 200), lessee.current
        assert ticket
        assert first
        ended = first.decision.decided_at + timedelta(seconds=2)
        await eventually(lambda: _past(live, ended + timedelta(seconds=2)), True)
        assert lessee.current is not first
        # Unused since, the later ones went back; of the first, its two calls are held though its time is long over.
        await until(live, budget, (0, 2 * PRICE, 0))
        assert await leases_of(live, "unconfirmed") == 0
        await lessee.settle(ticket, input_tokens=1000, output_tokens=100)
        await until(live, budget, (COST, PRICE, 0))


async def test_a_lease_without_an_answer_is_given_back_whole(live: Books, settings: Settings) -> None:
    budget = await live.limit(10_000 * PRICE)
    async with leasing(settings) as bus:
        lessee = await bus.lessee(**SCOPE)
        with pytest.raises(BudgetUnavailable) as caught:
            await bus.check(**SCOPE, **SIZE, timeout_s=0.0001)
        assert caught.value.request_id is None
        assert lessee.admit(1000, 200) is None
        await eventually(lambda: live.pool.fetchval("SELECT count(*) FROM hold WHERE state = 'open'"), 0)
        answer = await bus.check(**SCOPE, **SIZE)
        assert (answer.allowed, answer.estimate_source) == (True, "input_tokens, max_output_tokens")
        await until(live, budget, (0, PRICE, 0))


async def test_many_askers_at_once_share_one_lease(live: Books, settings: Settings) -> None:
    await live.limit(10_000 * PRICE)
    async with leasing(settings, calls=100) as bus:
        await bus.lessee(**SCOPE)
        answers = await asyncio.gather(*(bus.check(**SCOPE, **SIZE) for _ in range(60)))
        assert {answer.estimate_source for answer in answers} == {"lease"}
        assert len({answer.request_id for answer in answers}) == 1


async def test_who_gives_up_waiting_leaves_its_share_to_others(live: Books, settings: Settings) -> None:
    await live.limit(10_000 * PRICE)
    async with leasing(settings) as bus:
        lessee = await bus.lessee(**SCOPE)
        asking = asyncio.create_task(bus.check(**SCOPE, **SIZE))
        while lessee.taking is None:  # noqa: ASYNC110 - the next steps of the loop, before an answer can come
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await eventually(lambda: _value(lessee.current is not None and lessee.current.slice.outstanding == 0), True)
        assert lessee.current
        assert lessee.current.slice.calls == 20


async def test_after_stop_nothing_is_admitted(live: Books, settings: Settings) -> None:
    budget = await live.limit(10_000 * PRICE)
    async with leasing(settings) as bus:
        lessee = await bus.lessee(**SCOPE)
        await bus.check(**SCOPE, **SIZE)
        assert lessee.admit(1000, 200)
    assert lessee.admit(1000, 200) is None
    with pytest.raises(BudgetUnavailable):
        await bus.check(**SCOPE, **SIZE)
    await until(live, budget, (0, 2 * PRICE, 0))
    left = await live.pool.fetchval("SELECT expires_at - decided_at FROM hold WHERE lease")
    assert left > timedelta(seconds=590), "calls that are under way may take as long as others"


async def test_a_bus_without_a_lease_says_so(kafka: str, settings: Settings) -> None:
    with pytest.raises(RuntimeError, match="lease=Lease"):
        await BudgetBus.from_settings(settings).lessee(**SCOPE)


async def _value(value: bool) -> bool:
    return value


async def _past(books: Books, instant: datetime) -> bool:
    return bool(await books.pool.fetchval("SELECT clock_timestamp() > $1", instant))
