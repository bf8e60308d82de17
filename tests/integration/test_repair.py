"""Books that were damaged by hand are made anew from ledger and holds, while batches wait, and it is written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from budget_bus.bookkeeping.folding import fold
from budget_bus.policy.budget import Budget
from budget_bus.policy.windows import Window
from budget_bus.settings import Settings
from budget_bus.store import balances, repair
from budget_bus.store.admin import check_books, open_connection
from budget_bus.store.repair import repair_books
from tests.integration.books import BOUND, COST, USD, Books, check, usage
from tests.integration.budget_command import budget

QUIET: Any = lambda *_: None  # noqa: E731 - nobody looks


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


@pytest.fixture
async def connection(settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    async with open_connection(settings) as connection:
        yield connection


async def some(books: Books) -> Budget:
    whole = await books.limit(100 * USD)
    await books.limit(10 * USD, name="apollo's", scope={"component": "apollo"})
    await books.ask(check(), check(context_id="c"))
    # The first of them settles one of the two holds.
    await books.settle(usage(), usage(component="apollo"), usage(model="of-nobody", provider="nobody"))
    while await fold(books.pool, books.clock() + timedelta(hours=1)):
        pass
    return whole


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("UPDATE balance SET spent = spent + 1", id="a nano more spent"),
        pytest.param("UPDATE balance SET held = 0, unconfirmed = 7", id="held and unconfirmed"),
        pytest.param("UPDATE rollup SET cost_nanos = 0 WHERE component = 'apollo'", id="a rollup that forgot"),
        pytest.param("DELETE FROM rollup", id="rollups that are gone"),
        pytest.param(
            "INSERT INTO rollup SELECT bucket_start, 'ghost', provider, model, tier, task_type, user_name, context_id, "
            "currency, 1, 0, 0, 0, 0, 0 FROM rollup LIMIT 1",
            id="a rollup of nothing",
        ),
        pytest.param("UPDATE rollup_hour SET requests = requests + 1", id="an hour that is not its rollups"),
        pytest.param("DELETE FROM rollup_hour", id="hours that are gone"),
        pytest.param("UPDATE rollup_hour SET bucket_start = bucket_start + interval '1 hour'", id="an hour too late"),
    ],
)
async def test_what_was_damaged_is_made_anew_and_told(
    books: Books, connection: asyncpg.Connection, damage: str
) -> None:
    whole = await some(books)
    await connection.execute(damage)
    assert (await check_books(connection, progress=QUIET)).differences
    repaired = await repair_books(connection, actor="test", progress=QUIET)
    assert repaired
    assert (await check_books(connection, progress=QUIET)).differences == ()
    assert await books.balance(whole) == (2 * COST, BOUND, 0)
    told = await connection.fetch("SELECT before, after FROM change WHERE before ? 'repaired'")
    assert sum(len(row["before"]["repaired"]) for row in told) == len(repaired)
    assert await connection.fetchval("SELECT count(*) FROM outbox WHERE key = 'repair'") == len(told)


async def test_books_that_add_up_are_left_alone(books: Books, connection: asyncpg.Connection) -> None:
    await some(books)
    assert await repair_books(connection, actor="test", progress=QUIET) == []
    assert await connection.fetchval("SELECT count(*) FROM change WHERE before ? 'repaired'") == 0


async def _repair_while_a_batch_comes(books: Books, connection: asyncpg.Connection, patch: pytest.MonkeyPatch) -> bool:
    """Repair, with a batch that comes after a balance was summed and before it is written; whether it got through."""
    real = balances.ledger_sum
    batch: list[asyncio.Task[None]] = []
    through: list[bool] = []

    async def summed(on: asyncpg.Connection, of: Budget, window: Window) -> int:
        amount = await real(on, of, window)
        if not batch:
            batch.append(asyncio.create_task(books.settle(usage())))
            while not batch[0].done() and not await books.pool.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            ):
                pass
            through.append(batch[0].done())
        return amount

    patch.setattr(repair.balances, "ledger_sum", summed)
    await repair_books(connection, actor="test", progress=QUIET)
    await asyncio.wait_for(batch[0], 30)
    return through[0]


async def test_a_batch_waits_for_the_repair_of_a_balance(
    books: Books, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await some(books)
    await connection.execute("UPDATE balance SET spent = spent + 1")
    assert not await _repair_while_a_batch_comes(books, connection, monkeypatch)
    assert (await books.balance(whole))[0] == 3 * COST
    assert (await check_books(connection, progress=QUIET)).differences == ()


async def no_lock(connection: asyncpg.Connection) -> None:
    """Nobody waits."""


async def test_without_the_lock_its_event_would_be_lost(
    books: Books, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await some(books)
    await connection.execute("UPDATE balance SET spent = spent + 1")
    monkeypatch.setattr(repair, "lock_catalogue", no_lock)
    assert await _repair_while_a_batch_comes(books, connection, monkeypatch)
    assert "spent" in {one.number for one in (await check_books(connection, progress=QUIET)).differences}


async def test_the_command_repairs_and_then_finds_nothing(
    books: Books, connection: asyncpg.Connection, settings: Settings
) -> None:
    await some(books)
    await connection.execute("UPDATE balance SET spent = spent + 1")
    await budget(settings, "db", "check", code=1)
    told = await budget(settings, "db", "check", "--repair")
    assert "repaired 2 numbers" in told.err
    assert "the books add up" in told.out
