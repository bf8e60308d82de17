"""Hours are the sums of their rollups, whenever they are folded and whatever comes late; reports read either."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from budget_bus.bookkeeping import folding
from budget_bus.bookkeeping.folding import fold, keep_folding
from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.store import fence, ledger, reads, reports
from budget_bus.store.migrate import migrations
from budget_bus.store.reads import Spans
from tests.integration.books import Books, usage

DAYS = 2
DIFFERENT_HOURS = """
SELECT (SELECT sum(requests) FROM rollup WHERE bucket_start < hours_until) - (SELECT sum(requests) FROM rollup_hour)
FROM rollup_folded
"""


@pytest.fixture
async def books(pool: asyncpg.Pool) -> Books:
    """Of two days, of which no hour is folded yet."""
    await pool.execute(
        "UPDATE rollup_folded SET hours_until = hour_of($1)", datetime.now(UTC) - timedelta(days=DAYS, hours=1)
    )
    return Books(pool)


def events(chance: random.Random, count: int) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return [
        usage(
            occurred_at=(now - timedelta(seconds=chance.randrange(DAYS * 86_400))).isoformat(),
            component=chance.choice(("rhetor", "apollo")),
            context_id=chance.choice(("run-1", "run-2", None)),
            input_tokens=chance.randrange(5000),
        )
        for _ in range(count)
    ]


async def folded(books: Books) -> list[datetime]:
    return [row["bucket_start"] for row in await books.pool.fetch("SELECT DISTINCT bucket_start FROM rollup_hour")]


async def fold_all(books: Books, upto: datetime) -> None:
    while await fold(books.pool, upto):
        pass


async def test_an_hour_is_folded_when_it_is_over_and_only_once(books: Books) -> None:
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    await books.settle(usage(occurred_at=now.isoformat()), usage(occurred_at=(hour - timedelta(minutes=1)).isoformat()))
    await fold_all(books, hour - timedelta(microseconds=1))
    assert await folded(books) == []
    assert await fold(books.pool, hour)
    assert not await fold(books.pool, hour)
    assert await folded(books) == [hour - timedelta(hours=1)]
    await books.assert_exact()


async def test_an_older_ledger_is_folded_from_its_first_hour_on(books: Books) -> None:
    await books.settle(*events(random.Random(5), 40))
    await books.pool.execute("DROP TABLE rollup_folded, rollup_hour CASCADE")
    await books.pool.execute("DROP FUNCTION rollups_between, hour_of")
    await books.pool.execute(migrations()["0017_hours.sql"])
    begun = "SELECT hours_until = (SELECT hour_of(min(bucket_start)) FROM rollup) FROM rollup_folded"
    assert await books.pool.fetchval(begun)
    await fold_all(books, datetime.now(UTC))
    await books.assert_exact()
    assert await books.pool.fetchval(DIFFERENT_HOURS) == 0


async def test_what_comes_late_is_added_to_its_hour(books: Books) -> None:
    await books.settle(*events(random.Random(1), 40))
    await fold_all(books, datetime.now(UTC))
    await books.settle(*events(random.Random(2), 40))
    await books.assert_exact()
    assert await books.pool.fetchval("SELECT sum(requests) FROM rollup_hour") > 70


async def test_settlers_and_a_folder_at_once_lose_and_double_nothing(books: Books) -> None:
    chance = random.Random(3)

    hours = 0

    async def settle(part: int) -> None:
        keeper = books.settler()
        while hours < 20:
            await books.settle(*events(chance, 8), part=part, by=keeper)

    async def fold_meanwhile() -> None:
        nonlocal hours
        while hours < 20:
            with suppress(asyncpg.LockNotAvailableError):
                hours += await fold(books.pool, datetime.now(UTC))

    await asyncio.gather(settle(0), settle(1), fold_meanwhile())
    await books.assert_exact()
    assert await books.pool.fetchval(DIFFERENT_HOURS) == 0


async def test_a_bookkeeper_folds_all_that_is_behind_and_stops_when_told(books: Books) -> None:
    await books.settle(*events(random.Random(4), 30))
    stopping = asyncio.Event()
    folder = asyncio.create_task(keep_folding(books.pool, stopping))
    async with asyncio.timeout(60):
        while await books.pool.fetchval("SELECT hours_until < now() - interval '2 hours' FROM rollup_folded"):
            await asyncio.to_thread(lambda: None)
        stopping.set()
        await folder
    await books.assert_exact()
    assert await folded(books)


async def _fold_while_a_batch_is_under_way(books: Books) -> bool:
    """Whether the fold went ahead; the batch is of the very hour, and is committed after it."""
    await books.settle(usage(occurred_at=(datetime.now(UTC) - timedelta(hours=2)).isoformat()))
    key, sums = await _the_rollup(books)
    await fold_all(books, key.bucket_start.replace(minute=0))
    went_ahead = True
    async with books.pool.acquire() as connection, connection.transaction():
        await fence.enter(connection, USAGE_RECORDED)
        await ledger.add_rollups(connection, {key: sums})
        try:
            await fold(books.pool, key.bucket_start.replace(minute=0) + timedelta(hours=1))
        except asyncpg.LockNotAvailableError:
            went_ahead = False
    return went_ahead


async def _the_rollup(books: Books) -> tuple[ledger.RollupKey, list[int]]:
    row = dict(await books.pool.fetchrow("SELECT * FROM rollup"))
    row["user"] = row.pop("user_name")
    return ledger.RollupKey(*(row[name] for name in ledger.RollupKey._fields)), [row[n] for n in ledger.ROLLUP_SUMS]


async def test_a_fold_waits_for_the_batch_that_is_under_way(books: Books) -> None:
    assert not await _fold_while_a_batch_is_under_way(books)
    await fold_all(books, datetime.now(UTC))
    assert await books.pool.fetchval(DIFFERENT_HOURS) == 0


async def test_without_the_lock_a_batch_would_be_lost_to_its_hour(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_lock(connection: asyncpg.Connection, *, patience_ms: int) -> None:
        """Nobody waits."""

    monkeypatch.setattr(folding.fence, "lock_catalogue", no_lock)
    assert await _fold_while_a_batch_is_under_way(books)
    assert await books.pool.fetchval(DIFFERENT_HOURS) == 1


@pytest.mark.parametrize("seed", range(3))
async def test_reports_are_the_same_from_hours_and_from_rollups(
    books: Books, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    now = datetime.now(UTC)
    await books.settle(*events(chance, 200))
    await fold_all(books, now - timedelta(hours=chance.randrange(30)))
    await books.settle(*events(chance, 100))
    spans = [sorted(now - timedelta(seconds=chance.randrange(DAYS * 86_400)) for _ in range(2)) for _ in range(12)]
    spans.append([now - timedelta(days=DAYS), now])

    async def told() -> list[Any]:
        found: list[Any] = []
        for start, end in spans:
            found.append(await _sorted_usage(books, start, end))
            # Days of UTC, and of a zone whose days begin at half past.
            for minutes in (0, 330):
                found.append(await _sorted_series(books, start, end, timedelta(minutes=minutes)))
            kept = await reports.contexts(books.pool, start, end, group_by=["component"], filters={}, currency="USD")
            found.append(sorted(kept.items(), key=repr))
        return found

    by_hours = await told()
    read = []
    real = reads.spans

    async def by_quarters(*args: Any, **options: Any) -> Spans:
        read.append(await real(*args, **options))
        return await real(*args, **{**options, "by_hour": False})

    monkeypatch.setattr(reads, "spans", by_quarters)
    monkeypatch.setattr(reports, "spans", by_quarters)
    assert await told() == by_hours
    assert any(one.hours_start < one.hours_end for one in read)
    assert any(one.hours_start == one.hours_end for one in read)


async def _sorted_usage(books: Books, start: datetime, end: datetime) -> list[Any]:
    return sorted(await reads.usage(books.pool, start, end, group_by=("component",), filters={}), key=repr)


async def _sorted_series(books: Books, start: datetime, end: datetime, offset: timedelta) -> list[Any]:
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0) - offset
    after = [midnight + timedelta(days=n) for n in range(1, DAYS + 2)]
    bins = [start, *(at for at in after if start < at < end)]
    return sorted(await reports.series(books.pool, start, end, bins=bins, group_by=(), filters={}), key=repr)
