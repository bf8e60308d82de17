"""The loop on a real broker and database: every record is applied once, whatever the log and the group do."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.record.util import calc_crc32c

from budget_bus.consumers import loop as loop_module
from budget_bus.consumers.batch import Batch
from budget_bus.consumers.dead_letters import DeadLetter, bury
from budget_bus.consumers.loop import ConsumerLoop
from budget_bus.kafka import connection
from budget_bus.settings import Settings
from budget_bus.store import fence

TOPIC = "usage.recorded"
PARTS = 4
pytestmark = pytest.mark.usefixtures("kafka")


@dataclass(slots=True)
class Applied:
    """Applies batches: moves the books and remembers the records."""

    pool: asyncpg.Pool
    records: list[ConsumerRecord] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def apply(self, batch: Batch, refused: str | None) -> None:
        async with self.pool.acquire() as db, db.transaction():
            await fence.enter(db, batch.topic, batch.moves)
            if refused:
                letters = [DeadLetter(record, refused) for record in batch.records]
                await bury(db, batch.topic, letters, at=datetime.now(UTC))
        async with self.news:
            self.records += batch.records
            self.news.notify_all()

    @property
    def values(self) -> list[bytes]:
        return sorted(record.value for record in self.records)

    async def until(self, values: list[bytes]) -> None:
        """Wait until these have been applied; fails if anything else, or anything twice, has been."""
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: len(self.records) >= len(values))
        assert self.values == sorted(values)


@pytest.fixture
def applied(pool: asyncpg.Pool) -> Applied:
    return Applied(pool)


@pytest.fixture
async def admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(**connection(settings))
    await client.start()
    name = settings.topic_prefix + TOPIC
    await client.create_topics([NewTopic(name, num_partitions=PARTS, replication_factor=1)])
    yield client
    await client.delete_topics([name])
    await client.close()


@asynccontextmanager
async def producing(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**connection(settings), **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(settings: Settings, values: list[bytes]) -> list[bytes]:
    """Spread *values* evenly over the partitions."""
    async with producing(settings) as producer:
        for i, value in enumerate(values):
            await producer.send_and_wait(settings.topic_prefix + TOPIC, value, partition=i % PARTS)
    return values


@asynccontextmanager
async def member(
    settings: Settings, pool: asyncpg.Pool, apply: Callable[[Batch, str | None], Awaitable[None]]
) -> AsyncIterator[tuple[ConsumerLoop, asyncio.Task[None]]]:
    """A member of the group; on exit it is stopped, unless it has ended with an error."""
    loop = ConsumerLoop(settings, pool, topic=TOPIC, group="test", apply=apply)
    running = asyncio.create_task(loop.run())
    try:
        yield loop, running
    finally:
        loop.stop()
        await asyncio.wait({running})
        if not running.cancelled() and (error := running.exception()):
            assert isinstance(error, RuntimeError | asyncpg.PostgresError), error


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Wait until the server's state fulfils *condition*: nothing tells us when it does, so it is asked again."""
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.to_thread(lambda: None)


def places(settings: Settings) -> list[TopicPartition]:
    return [TopicPartition(settings.topic_prefix + TOPIC, part) for part in range(PARTS)]


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[ConsumerRecord]:
    """What aiokafka gave to any loop, whether it was used or dropped."""
    seen: list[ConsumerRecord] = []
    original = AIOKafkaConsumer.getmany

    async def getmany(self: AIOKafkaConsumer, *args: Any, **options: Any) -> Any:
        found = await original(self, *args, **options)
        for records in found.values():
            seen.extend(records)
        return found

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)
    monkeypatch.setattr(loop_module, "_IDLE_WATERMARK_S", float("inf"))  # no statement but those that a test means
    return seen


@pytest.mark.usefixtures("apache_kafka", "admin")
async def test_what_was_fetched_while_partitions_were_claimed_is_fetched_again(
    settings: Settings,
    pool: asyncpg.Pool,
    applied: Applied,
    database_url: str,
    delivered: list[ConsumerRecord],
) -> None:
    first = await send(settings, [b"old %d" % i for i in range(8)])
    observer = AIOKafkaConsumer(**connection(settings), group_id=settings.topic_prefix + "test")
    await observer.start()

    async def committed() -> bool:
        return [await observer.committed(place) for place in places(settings)] == [2] * PARTS

    db = await asyncpg.connect(database_url)
    try:
        async with member(settings, pool, applied.apply) as (one, _):
            await applied.until(first)
            await until(committed)
            async with db.transaction():
                await db.execute("SELECT FROM bus_offset FOR UPDATE")  # nobody can claim
                async with member(settings, pool, applied.apply) as (two, _):
                    waiting = (
                        "SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database()"
                        " AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
                    )
                    await until(lambda: pool.fetchval(waiting))
                    backlog = await send(settings, [b"new %d" % i for i in range(40)])

                    async def fetched() -> bool:
                        return set(backlog) <= {record.value for record in delivered}

                    await until(fetched)
                    assert applied.values == sorted(first)
                    await db.execute("ROLLBACK")
                    await applied.until(first + backlog)
                    assert one.ready.is_set()
                    assert two.ready.is_set()
    finally:
        await db.close()
        await observer.stop()


def _poison(batch: Any, name: bytes) -> None:
    """Make the header name *name* no UTF-8, in the bytes of the batch, as librdkafka can send it."""
    batch.close()
    raw = bytearray(batch._build())
    at = raw.index(name)
    raw[at] = 0xFF
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    batch._buffer = raw


async def test_a_header_name_that_is_not_utf8_costs_neither_its_record_nor_its_neighbours(
    settings: Settings, pool: asyncpg.Pool, applied: Applied, admin: AIOKafkaAdminClient
) -> None:
    topic = settings.topic_prefix + TOPIC
    sent = []
    async with producing(settings) as producer:
        for part in (0, 1):  # two such partitions, and two without
            batch = producer.create_batch()
            for i in range(5):
                headers = [("a bad name", b"1"), ("empty", None)] if i == 2 else [("good", None)]
                value = b"%d/%d" % (part, i)
                batch.append(key=b"k", value=value, timestamp=None, headers=headers)
                sent.append(value)
            _poison(batch, b"a bad name")
            await (await producer.send_batch(batch, topic, partition=part))
    sent += await send(settings, [b"after %d" % i for i in range(8)])
    async with member(settings, pool, applied.apply) as (_, running):
        await applied.until(sent)
        assert not running.done()
        # The loop reads on with aiokafka's own fetching.
        await applied.until(sent + await send(settings, [b"later %d" % i for i in range(8)]))
    bad = [record for record in applied.records if record.value in (b"0/2", b"1/2")]
    assert [record.headers for record in bad] == [(("\\xff bad name", b"1"), ("empty", None))] * 2
    assert [record.offset for record in bad] == [2, 2]


@pytest.mark.usefixtures("admin")
@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_batch_is_read_however_its_component_compressed_it(
    settings: Settings, pool: asyncpg.Pool, applied: Applied, codec: str
) -> None:
    values = [b"a" * 1000, b"b" * 1000]
    async with member(settings, pool, applied.apply), producing(settings, compression_type=codec) as producer:
        for value in values:
            await producer.send_and_wait(settings.topic_prefix + TOPIC, value)
        await applied.until(values)


@pytest.mark.usefixtures("admin")
async def test_a_header_without_a_value_is_buried_with_its_record(
    settings: Settings, pool: asyncpg.Pool, applied: Applied
) -> None:
    async def refuse(batch: Batch, refused: str | None) -> None:
        if refused is None:
            raise ValueError("no")
        await applied.apply(batch, refused)

    async with producing(settings) as producer:
        await producer.send_and_wait(
            settings.topic_prefix + TOPIC, b"1", partition=0, headers=[("none", None), ("raw", b"\xff")]
        )
    async with member(settings, pool, refuse):
        await applied.until([b"1"])
    row = await pool.fetchrow("SELECT header_names, header_values FROM outbox")
    headers = dict(zip(row["header_names"], row["header_values"], strict=True))
    assert (headers["none"], headers["raw"], headers["dlq_offset"]) == (b"", b"\xff", b"0")


@pytest.mark.usefixtures("admin")
async def test_an_error_that_is_no_loss_of_the_database_ends_the_process(
    settings: Settings, pool: asyncpg.Pool
) -> None:
    async def broken(_batch: Batch, _refused: str | None) -> None:
        await pool.execute("SELECT FROM no_such_table")

    await send(settings, [b"1"])
    async with member(settings, pool, broken) as (_, running):
        with pytest.raises(asyncpg.UndefinedTableError):
            await asyncio.wait_for(running, 20)


@pytest.mark.usefixtures("admin")
async def test_a_fault_of_ours_ends_the_process_before_the_topic_is_drained(
    settings: Settings, pool: asyncpg.Pool, applied: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "_MAX_FAULTS", 3)

    async def broken(batch: Batch, refused: str | None) -> None:
        if refused is None:
            raise RuntimeError("a bug")
        await applied.apply(batch, refused)

    await send(settings, [b"%d" % i for i in range(12)])
    async with member(settings, pool, broken) as (_, running):
        with pytest.raises(RuntimeError, match="a bug"):
            await asyncio.wait_for(running, 20)
    assert len(applied.records) == 3


@pytest.mark.usefixtures("admin")
async def test_an_error_while_partitions_are_claimed_ends_the_process(
    settings: Settings, pool: asyncpg.Pool, applied: Applied
) -> None:
    await pool.execute("ALTER TABLE bus_offset RENAME TO gone")
    async with member(settings, pool, applied.apply) as (_, running):
        with pytest.raises(asyncpg.UndefinedTableError):
            await asyncio.wait_for(running, 20)


async def test_a_halted_partition_leaves_the_others_alone_until_its_loss_is_accepted(
    settings: Settings, pool: asyncpg.Pool, applied: Applied, admin: AIOKafkaAdminClient
) -> None:
    first = await send(settings, [b"old %d" % i for i in range(8)])
    async with member(settings, pool, applied.apply):
        await applied.until(first)
        observer = AIOKafkaConsumer(**connection(settings), group_id=settings.topic_prefix + "test")
        await observer.start()

        async def committed() -> bool:
            return bool(await observer.committed(places(settings)[0]) == 2)

        await until(committed)
        await observer.stop()
    lost = await send(settings, [b"lost %d" % i for i in range(8)])
    await admin.delete_records({places(settings)[0]: RecordsToDelete(before_offset=4)})
    kept = [value for i, value in enumerate(lost) if i % PARTS]
    async with member(settings, pool, applied.apply) as (loop, _):
        joined = 0
        original = loop._run_once

        async def counted() -> None:
            nonlocal joined
            joined += 1
            await original()

        loop._run_once = counted  # type: ignore[method-assign]
        await applied.until(first + kept)
        generation = loop._generation
        for i in range(20):  # more than one long poll: a failing fetch of the halted partition would have been met
            more = [b"more %d/%d" % (i, part) for part in range(1, PARTS)]
            async with producing(settings) as producer:
                for part, value in enumerate(more, start=1):
                    await producer.send_and_wait(settings.topic_prefix + TOPIC, value, partition=part)
            kept += more
            await applied.until(first + kept)
        assert (loop._generation, joined) == (generation, 1)
        await pool.execute(
            "UPDATE bus_offset SET next_offset = 4, owner_epoch = owner_epoch + 1 WHERE topic = $1 AND part = 0", TOPIC
        )
        kept += await send(settings, [b"healed"])
        await applied.until(first + kept)


@pytest.mark.usefixtures("admin")
@pytest.mark.parametrize("answers", [True, False], ids=["the database refuses", "the database does not answer"])
async def test_stop_ends_it_soon_though_the_database_is_away(
    settings: Settings, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr(loop_module, "_LAST_BATCH_S", 0.1)
    tried = asyncio.Event()

    async def away(_batch: Batch, _refused: str | None) -> None:
        tried.set()
        if not answers:
            await asyncio.Event().wait()
        raise OSError("no database")

    await send(settings, [b"1"])
    async with member(settings, pool, away) as (loop, running):
        await asyncio.wait_for(tried.wait(), 20)
        loop.stop()
        await asyncio.wait_for(running, 10)


@pytest.mark.usefixtures("admin")
async def test_an_idle_partition_keeps_its_watermark_behind_the_marker_of_a_transaction(
    settings: Settings, pool: asyncpg.Pool, applied: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "_IDLE_WATERMARK_S", 0.05)
    async with member(settings, pool, applied.apply):
        async with producing(settings, transactional_id=settings.topic_prefix + "writer") as producer:
            async with producer.transaction():
                await producer.send_and_wait(settings.topic_prefix + TOPIC, b"1", partition=0)
            await applied.until([b"1"])
        committed_at = datetime.now(UTC)

        async def moved() -> bool:
            read_to = await pool.fetchval("SELECT watermark_at FROM bus_offset WHERE topic = $1 AND part = 0", TOPIC)
            return bool(read_to > committed_at)

        await until(moved)
    assert await pool.fetchval("SELECT next_offset FROM bus_offset WHERE topic = $1 AND part = 0", TOPIC) == 1


async def test_partitions_that_the_topic_has_lost_hold_no_watermark_back(
    settings: Settings, pool: asyncpg.Pool, admin: AIOKafkaAdminClient, applied: Applied
) -> None:
    """The topic was made anew with fewer partitions: nobody will ever read the others again."""
    async with pool.acquire() as db:
        for part, seen in ((PARTS, "1 hour"), (PARTS + 1, "0 s")):
            await fence.take(db, TOPIC, part, owner="before", start_offset=0)
            await db.execute(
                "UPDATE bus_offset SET seen_at = clock_timestamp() - $2::text::interval WHERE part = $1", part, seen
            )
    async with member(settings, pool, applied.apply):
        await until(lambda: pool.fetchval("SELECT NOT EXISTS (SELECT FROM bus_offset WHERE part = $1)", PARTS))
    # Whoever is at work on one knows of a partition that we do not know yet.
    assert await pool.fetchval("SELECT owner_id FROM bus_offset WHERE part = $1", PARTS + 1) == "before"
