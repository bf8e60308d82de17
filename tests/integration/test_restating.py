"""Costs that are restated after a price correction: exact after every chunk, once, resumable, and told of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from budget_bus.bookkeeping import restating
from budget_bus.bookkeeping.restating import Restating, difference
from budget_bus.bookkeeping.unpriced import keep_pricing, price_unpriced
from budget_bus.errors import Conflict
from budget_bus.policy.budget import Policy, Unit
from budget_bus.policy.windows import Period
from budget_bus.providers.prices import PriceBook
from budget_bus.settings import Settings
from budget_bus.store import balances, restatements
from budget_bus.store.admin import check_books, open_connection
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.prices import set_price
from budget_bus.store.restatements import Range
from tests.integration.books import COST, USD, Books, usage
from tests.integration.budget_command import budget

ONE_EACH = {"input": [1_000_000, []], "output": [1_000_000, []]}  # 1 USD per million tokens
NEW_COST = 1_100_000  # of one `usage()` at that
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
QUIET: Any = lambda *_: None  # noqa: E731 - nobody looks


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


@pytest.fixture
async def connection(settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    async with open_connection(settings) as connection:
        yield connection


def work(connection: asyncpg.Connection, wanted: Range | None = None, **fields: Any) -> Restating:
    values: dict[str, Any] = {
        "catalogue": Catalogue(Policy.WARN),
        "prices": PriceBook(),
        "wanted": wanted or Range(),
        "actor": "test",
        "reason": "a test",
        "now": lambda: datetime.now(UTC),
        "progress": QUIET,
        **fields,
    }
    return Restating(connection=connection, **values)


async def corrected(books: Books) -> None:
    await set_price(books.pool, "openai", "gpt-4o", ONE_EACH, effective_from=LONG_AGO, actor="test")


async def assert_green(books: Books, connection: asyncpg.Connection) -> None:
    await books.assert_exact()
    assert (await check_books(connection, progress=QUIET)).differences == ()


async def until(pool: asyncpg.Pool, condition: str) -> None:
    async with asyncio.timeout(30):
        while not await pool.fetchval(condition):
            pass


def at(when: datetime) -> str:
    return when.isoformat()


async def test_ledger_rollups_and_balances_move_together_and_again_changes_nothing(
    books: Books, connection: asyncpg.Connection
) -> None:
    cost = await books.limit(100 * USD)
    tokens = await books.limit(10**9, name="tokens", unit=Unit.TOKENS)
    part = await books.limit(100 * USD, name="part", scope={"component": "codex"}, period=Period.MONTHLY)
    await books.settle(*(usage() for _ in range(7)), *(usage(component="codex") for _ in range(3)))
    await corrected(books)
    assert await work(connection).run() == 10
    assert [await books.balance(one) for one in (cost, tokens, part)] == [
        (10 * NEW_COST, 0, 0),
        (11_000, 0, 0),
        (3 * NEW_COST, 0, 0),
    ]
    await assert_green(books, connection)
    before = await connection.fetch("SELECT cost_nanos, price_status FROM restated")
    assert [tuple(row) for row in before] == [(COST, "priced")] * 10
    assert await work(connection).run() == 0
    assert await connection.fetchval("SELECT count(*) FROM restatement") == 1
    assert await connection.fetchval("SELECT count(*) FROM restated") == 10


async def test_one_audit_row_and_one_fact_tell_of_all(books: Books, connection: asyncpg.Connection) -> None:
    await books.settle(usage(), usage())
    await corrected(books)
    await work(connection).run()
    (row,) = await connection.fetch("SELECT after, actor FROM change WHERE after ? 'restatement'")
    told = row["after"]["restatement"]
    assert (told["rows_changed"], told["moved_nanos"], row["actor"]) == (2, 2 * (NEW_COST - COST), "test")
    facts = await connection.fetchval("SELECT count(*) FROM outbox WHERE key = 'restatement'")
    assert facts == 1


async def test_the_difference_is_told_first_and_nothing_is_written(
    books: Books, connection: asyncpg.Connection
) -> None:
    await books.limit(100 * USD)
    await books.settle(usage(), usage(model="nobody-knows"), usage(model="house", provider="acme"))
    await corrected(books)
    await set_price(books.pool, "acme", "house", ONE_EACH, effective_from=LONG_AGO, actor="test")
    told = await difference(connection, PriceBook(), Range(), progress=QUIET)
    gpt, nobody = told["openai", "gpt-4o", "USD"], told["openai", "nobody-knows", "USD"]
    house = told["acme", "house", "USD"]
    assert (gpt.rows, gpt.changed, gpt.before, gpt.after) == (1, 1, COST, NEW_COST)
    assert (nobody.rows, nobody.changed, nobody.without_price) == (1, 0, 1)
    assert (house.changed, house.newly_priced, house.after) == (1, 1, NEW_COST)
    assert await connection.fetchval("SELECT count(*) FROM restatement") == 0
    await assert_green(books, connection)


async def test_only_what_was_asked_for_is_restated(books: Books, connection: asyncpg.Connection) -> None:
    now = datetime.now(UTC)
    hours = [now - timedelta(hours=hour) for hour in range(1, 7)]
    await books.settle(*(usage(occurred_at=at(when)) for when in hours), usage(model="gpt-4o-mini"))
    await corrected(books)
    await set_price(books.pool, "openai", "gpt-4o-mini", ONE_EACH, effective_from=LONG_AGO, actor="test")
    wanted = Range(hours[3], hours[1], "openai", "gpt-4o")
    assert await work(connection, wanted).run() == 2
    rows = await connection.fetch("SELECT occurred_at FROM ledger WHERE cost_nanos = $1", NEW_COST)
    assert {row["occurred_at"] for row in rows} == {hours[3], hours[2]}
    await assert_green(books, connection)


async def test_what_has_no_price_any_more_keeps_what_it_cost(books: Books, connection: asyncpg.Connection) -> None:
    await set_price(books.pool, "acme", "house", ONE_EACH, effective_from=LONG_AGO, actor="test")
    await books.settle(usage(provider="acme", model="house"))
    await connection.execute("DELETE FROM price")
    await connection.execute("UPDATE catalogue SET version = version + 1")
    assert await work(connection).run() == 0
    assert await connection.fetchval("SELECT cost_nanos FROM ledger") == NEW_COST


async def test_a_killed_one_goes_on_where_it_was(
    books: Books, connection: asyncpg.Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restating, "CHUNK", 3)
    budget_ = await books.limit(100 * USD)
    now = datetime.now(UTC)
    await books.settle(*(usage(occurred_at=at(now - timedelta(minutes=16 * i))) for i in range(10)))
    await corrected(books)
    chunks = 0

    def killed(*_: object) -> None:
        nonlocal chunks
        chunks += 1
        if chunks == 2:
            raise KeyboardInterrupt

    async with open_connection(settings) as dying:
        with pytest.raises(KeyboardInterrupt):
            await work(dying, progress=killed).run()
    half = await connection.fetchval("SELECT count(*) FROM ledger WHERE cost_nanos = $1", NEW_COST)
    assert 0 < half < 10
    await assert_green(books, connection)
    await books.settle(usage())  # at the new price, in between
    assert await work(connection).run() == 10 - half
    assert await connection.fetchval("SELECT count(*) FROM restatement") == 1
    assert await connection.fetchval("SELECT state || rows_changed FROM restatement") == "done10"
    assert (await books.balance(budget_))[0] <= 11 * NEW_COST
    await assert_green(books, connection)


async def test_a_chunk_that_is_rolled_back_leaves_nothing(
    books: Books, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await books.limit(100 * USD)
    await books.settle(usage())
    await corrected(books)

    async def crash(*_: object, **__: object) -> None:
        raise OSError("killed before the commit")

    with monkeypatch.context() as patched:
        patched.setattr(restatements, "advance", crash)
        with pytest.raises(OSError, match="killed"):
            await work(connection).run()
    assert await connection.fetchval("SELECT cost_nanos FROM ledger") == COST
    await assert_green(books, connection)
    assert await work(connection).run() == 1


async def test_without_moving_the_balances_the_books_would_not_add_up(
    books: Books, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await books.limit(100 * USD)
    await books.settle(usage())
    await corrected(books)

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(balances, "move", nothing)
    await work(connection).run()
    assert [one.number for one in (await check_books(connection, progress=QUIET)).differences] == ["spent"]


async def test_prices_that_change_on_the_way_hold_for_the_rows_before_too(
    books: Books, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restating, "CHUNK", 2)
    await books.limit(100 * USD)
    now = datetime.now(UTC)
    await books.settle(*(usage(occurred_at=at(now - timedelta(minutes=16 * i))) for i in range(6)))
    await corrected(books)
    double = {"input": [2_000_000, []], "output": [2_000_000, []]}
    setting: list[asyncio.Task[bool]] = []
    real = Restating._chunk

    async def chunk(self: Restating, part: Any) -> bool:
        more = await real(self, part)
        if not setting:
            change = set_price(books.pool, "openai", "gpt-4o", double, effective_from=LONG_AGO, actor="test")
            setting.append(asyncio.create_task(change))
            # It waits for this chunk's end, and the next chunk waits for it.
            await until(books.pool, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return more

    monkeypatch.setattr(Restating, "_chunk", chunk)
    await work(connection).run()
    assert await setting[0]
    costs = await connection.fetch("SELECT DISTINCT cost_nanos FROM ledger")
    assert [row["cost_nanos"] for row in costs] == [2 * NEW_COST]
    await assert_green(books, connection)


async def test_settlers_go_on_meanwhile_and_all_is_exact(
    books: Books, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restating, "CHUNK", 20)
    whole = await books.limit(100 * USD)
    now = datetime.now(UTC)
    for hour in range(4):
        await books.settle(*(usage(occurred_at=at(now - timedelta(minutes=20 * hour))) for _ in range(50)))
    await corrected(books)
    keeper = books.settler()

    async def settle() -> None:
        for _ in range(20):
            await books.settle(*(usage() for _ in range(5)), by=keeper)

    restated, _ = await asyncio.gather(work(connection).run(), settle())
    assert restated == 200
    rows = await connection.fetchval("SELECT count(*) FROM ledger WHERE cost_nanos = $1", NEW_COST)
    assert rows == 300
    assert (await books.balance(whole))[0] <= 300 * NEW_COST
    await assert_green(books, connection)


async def test_only_one_restates_at_a_time(books: Books, connection: asyncpg.Connection, settings: Settings) -> None:
    async with open_connection(settings) as other:
        await restatements.lock(other)
        with pytest.raises(Conflict, match="another process"):
            await work(connection).run()
        await restatements.unlock(other)
    assert await work(connection).run() == 0


async def test_a_closed_window_that_changes_is_alerted_once(books: Books, connection: asyncpg.Connection) -> None:
    budget_ = await books.limit(100 * USD, period=Period.HOURLY, thresholds=(100,), policy=Policy.WARN)
    then = datetime.now(UTC) - timedelta(days=2)
    await books.settle(usage(occurred_at=at(then)), usage())
    await corrected(books)
    await work(connection).run()
    (alert,) = await connection.fetch("SELECT payload FROM alert")
    told = alert["payload"]
    assert (told["type"], told["budget_id"]) == ("window_restated", str(budget_.budget_id))
    assert "from 0.0035 to 0.0011 USD" in told["message"]
    assert await connection.fetchval("SELECT count(*) FROM outbox WHERE topic = 'budget.alerts'") == 1
    await work(connection).run()
    assert await connection.fetchval("SELECT count(*) FROM alert") == 1


async def test_a_threshold_that_the_new_cost_crosses_is_alerted(books: Books, connection: asyncpg.Connection) -> None:
    await books.limit(USD, thresholds=(100,), policy=Policy.WARN)
    await books.settle(usage(provider="acme", model="house", input_tokens=10**6))
    assert await connection.fetchval("SELECT count(*) FROM alert") == 0
    await set_price(books.pool, "acme", "house", ONE_EACH, effective_from=LONG_AGO, actor="test")
    assert await price_unpriced(books.pool, Catalogue(Policy.WARN), PriceBook()) == 1
    assert await connection.fetchval("SELECT kind FROM alert") == "cost_limit_exceeded"
    assert await connection.fetchval("SELECT unpriced_requests FROM rollup WHERE cost_nanos > 0") == 0
    await assert_green(books, connection)


async def test_usage_without_a_price_has_one_as_soon_as_it_is_set(books: Books, connection: asyncpg.Connection) -> None:
    whole = await books.limit(100 * USD)
    stopping = asyncio.Event()
    await books.settle(usage(provider="acme", model="house"), usage(provider="acme", model="attic"))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        keeper = keep_pricing(books.pool, Catalogue(Policy.WARN), PriceBook(), stopping, poll_s=0.01)
        group.create_task(keeper)
        await set_price(books.pool, "acme", "house", ONE_EACH, effective_from=datetime.now(UTC), actor="test")
        await until(books.pool, "SELECT count(*) = 1 FROM ledger WHERE cost_nanos IS NULL")
        stopping.set()
    assert (await books.balance(whole))[0] == NEW_COST
    assert await connection.fetchval("SELECT actor FROM restatement") == "bookkeeper"
    await assert_green(books, connection)


async def test_the_seeds_command_shows_the_difference_and_restates(
    books: Books, connection: asyncpg.Connection, settings: Settings
) -> None:
    await books.limit(100 * USD)
    await books.settle(usage(), usage())
    await corrected(books)
    dry = await budget(settings, "recalculate", "--period", "daily", "--dry-run", "--format", "csv")
    assert "openai,gpt-4o,2,2,0,0,0.007,0.0022,-0.0048,USD" in dry.out
    assert await connection.fetchval("SELECT sum(cost_nanos)::bigint FROM ledger") == 2 * COST
    done = await budget(settings, "recalculate", "--period", "daily")
    assert "restated 2 rows" in done.err
    assert "restated 0 rows" in (await budget(settings, "recalculate")).err
    await assert_green(books, connection)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--from", "yesterday"),
        ("--to", "0001-01-01"),
        ("--period", "daily", "--from", "2026-01-01"),
        ("--from", "2026-01-02", "--to", "2026-01-01"),
        ("--period", "fortnightly"),
    ],
)
async def test_a_range_that_is_none_is_bad_usage(
    settings: Settings, pool: asyncpg.Pool, arguments: tuple[str, ...]
) -> None:
    told = await budget(settings, "recalculate", *arguments, code=2)
    assert arguments[-2] in told.err or "--from" in told.err
