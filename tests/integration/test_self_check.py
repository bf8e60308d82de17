"""The books check themselves: what is wrong is found and named, what is right stays green, one at a time."""

from __future__ import annotations

import asyncio
from time import time
from uuid import UUID

import asyncpg
import pytest

from budget_bus import metrics
from budget_bus.bookkeeping import self_check
from budget_bus.bookkeeping.self_check import check_all, keep_checking
from budget_bus.consumers.holds import HoldKeeper
from budget_bus.policy.budget import Policy, Unit
from budget_bus.settings import Settings
from budget_bus.store.admin import check_books, open_connection
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.repair import repair_books
from tests.integration.books import USD, Books, check, usage


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


def never() -> asyncio.Event:
    return asyncio.Event()


def told() -> tuple[float, float]:
    """The metrics: how many differences, and when."""
    values = [metrics.REGISTRY.get_sample_value(f"budget_bus_{name}") for name in
              ("book_differences", "books_checked_timestamp_seconds")]  # fmt: skip
    return (values[0] or 0.0, values[1] or 0.0)


async def live(books: Books) -> None:
    """A bit of everything: checks that are settled, that are not, a lease, usage of its own."""
    await books.limit(100 * USD)
    await books.limit(1_000_000, unit=Unit.TOKENS, name="tokens")
    asked = [check(), check(), check(lease_calls=3, hold_ttl_s=30)]
    await books.ask(*asked)
    await books.settle(
        usage(request_id=asked[0]["request_id"]), usage(), usage(request_id=asked[2]["request_id"]), usage()
    )
    await books.settle(usage(request_id=asked[2]["request_id"]), usage(component="codex"))


async def test_right_books_stay_green(books: Books, settings: Settings) -> None:
    await live(books)
    assert await check_all(books.pool, never()) == []
    async with open_connection(settings) as connection:
        findings = await check_books(connection, progress=lambda *_: None)
    assert findings.differences == ()
    assert findings.holds == 3


async def test_expired_holds_are_no_difference(books: Books) -> None:
    await books.limit(100 * USD)
    await books.ask(check())
    await books.pool.execute("UPDATE hold SET expires_at = now() - interval '1 day'")
    assert await HoldKeeper(books.pool, Catalogue(Policy.WARN)).expire_once() == 1
    assert await check_all(books.pool, never()) == []


@pytest.mark.parametrize(
    ("damage", "where", "number"),
    [
        pytest.param("UPDATE balance SET spent = spent + 1", "balance", "spent", id="spent"),
        pytest.param("UPDATE balance SET held = held + 1", "balance", "held", id="held"),
        pytest.param("UPDATE rollup SET cost_nanos = cost_nanos + 1", "rollup", "cost", id="a rollup"),
        pytest.param(
            "UPDATE hold SET event_id = gen_random_uuid() WHERE state = 'settled' AND NOT lease",
            "hold",
            "settled by",
            id="a hold that was settled by nothing",
        ),
        pytest.param(
            "UPDATE hold SET state = 'voided' WHERE state = 'settled' AND NOT lease",
            "hold",
            "settled by",
            id="an event whose hold is not settled",
        ),
        pytest.param(
            "UPDATE ledger SET request_id = gen_random_uuid() WHERE request_id IS NOT NULL",
            "hold",
            "settled by",
            id="an event that settled a hold which is not there",
        ),
    ],
)
async def test_what_is_wrong_is_named(books: Books, settings: Settings, damage: str, where: str, number: str) -> None:
    await live(books)
    await books.pool.execute(damage)
    found = await check_all(books.pool, never())
    assert found
    assert {(one.where.split()[0], one.number) for one in found} == {(where, number)}
    async with open_connection(settings) as connection:
        findings = await check_books(connection, progress=lambda *_: None)
    assert set(findings.differences) == set(found)


async def test_a_difference_is_told_until_it_is_repaired(books: Books, settings: Settings) -> None:
    await live(books)
    await books.pool.execute("UPDATE balance SET spent = spent + 7")
    began = time()
    await once(books.pool)
    differences, at = told()
    assert differences == 2
    assert at >= began
    async with open_connection(settings) as connection:
        await repair_books(connection, actor="test", progress=lambda *_: None)
    await once(books.pool)
    assert told()[0] == 0


async def once(pool: asyncpg.Pool) -> None:
    """One round of the background check."""
    stopping = asyncio.Event()
    before = told()[1]
    task = asyncio.create_task(keep_checking(pool, stopping, interval_s=3600))
    async with asyncio.timeout(30):
        while told()[1] == before:  # noqa: ASYNC110 - a metric has no event to wait for
            await asyncio.sleep(0)
    stopping.set()
    await task


async def test_it_goes_on_beside_a_settler_and_finds_nothing(books: Books) -> None:
    await live(books)

    async def settle() -> None:
        for _ in range(20):
            await books.settle(usage(), usage(component="codex"))

    working = asyncio.create_task(settle())
    rounds = 0
    while not working.done() or not rounds:
        assert await check_all(books.pool, never()) == []
        rounds += 1
    await working


async def test_one_bookkeeper_checks_at_a_time(books: Books) -> None:
    await live(books)
    await books.pool.execute("UPDATE balance SET spent = spent + 7")
    async with books.pool.acquire() as other:
        await other.execute("SELECT pg_advisory_lock($1)", self_check._LOCK)
        assert await check_all(books.pool, never()) is None
        await other.execute("SELECT pg_advisory_unlock($1)", self_check._LOCK)
    assert await check_all(books.pool, never())


async def test_a_stop_ends_it_and_tells_nothing(books: Books) -> None:
    await live(books)
    stopping = asyncio.Event()
    stopping.set()
    assert await check_all(books.pool, stopping) is None


async def test_never_is_never(books: Books) -> None:
    before = told()
    await asyncio.wait_for(keep_checking(books.pool, never(), interval_s=0), 5)
    assert told() == before


async def test_no_difference_of_holds_is_repaired_but_all_are_told(books: Books, settings: Settings) -> None:
    await live(books)
    await books.pool.execute("UPDATE hold SET event_id = $1 WHERE state = 'settled' AND NOT lease", UUID(int=7))
    async with open_connection(settings) as connection:
        assert await repair_books(connection, actor="test", progress=lambda *_: None) == []
        findings = await check_books(connection, progress=lambda *_: None)
    assert [one.number for one in findings.differences] == ["settled by"] * 4  # from each hold, and each event
