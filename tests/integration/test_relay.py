"""The relay on a real broker and database: at least once, one at a time, and nothing in the way of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from budget_bus.events.topics import BUDGET_ALERTS, USAGE_RECORDED, dead_letter_topic
from budget_bus.kafka import connection
from budget_bus.producers import outbox as relay_module
from budget_bus.producers.outbox import publish_once, relay
from budget_bus.producers.sender import MAX_RECORD_BYTES, Sender
from budget_bus.producers.topics import apply_topics
from budget_bus.settings import Settings
from budget_bus.store import outbox
from budget_bus.store.outbox import Message

DEAD = dead_letter_topic(USAGE_RECORDED)
pytestmark = pytest.mark.usefixtures("kafka")


@pytest.fixture
async def sender(settings: Settings) -> AsyncIterator[Sender]:
    await apply_topics(settings)
    opened = Sender(connection(settings))
    await opened.start()
    yield opened
    names = [name for name in await opened.topics() if name.startswith(settings.topic_prefix)]
    await opened.stop()
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    await admin.delete_topics(names)
    await admin.close()


@asynccontextmanager
async def reading(settings: Settings, topic: str) -> AsyncIterator[Callable[[], Awaitable[ConsumerRecord]]]:
    consumer = AIOKafkaConsumer(
        settings.topic_prefix + topic,
        **connection(settings),
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await consumer.start()

    async def one() -> ConsumerRecord:
        async with asyncio.timeout(20):
            return await consumer.getone()

    try:
        yield one
    finally:
        await consumer.stop()


@asynccontextmanager
async def relaying(pool: asyncpg.Pool, sender: Sender, settings: Settings) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    running = asyncio.create_task(relay(pool, sender, topic_prefix=settings.topic_prefix, stopping=stopping))
    try:
        yield
    finally:
        stopping.set()
        await running


async def put(pool: asyncpg.Pool, *values: bytes) -> None:
    async with pool.acquire() as db:
        await outbox.put(db, [Message(BUDGET_ALERTS, b"k", value) for value in values])


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Wait until the server's state fulfils *condition*: nothing tells us when it does, so it is asked again."""
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.to_thread(lambda: None)


async def test_what_it_was_killed_over_is_published_again_with_the_same_id(
    settings: Settings, pool: asyncpg.Pool, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> None:
        raise asyncio.CancelledError

    await put(pool, b'{"alert_id":"a"}')
    async with pool.acquire() as db:
        with monkeypatch.context() as patch:
            patch.setattr(outbox, "published", killed)
            with pytest.raises(asyncio.CancelledError):
                await publish_once(db, sender, topic_prefix=settings.topic_prefix)
        assert await outbox.waiting(db) == 1
    async with relaying(pool, sender, settings), reading(settings, BUDGET_ALERTS) as next_record:
        assert [(await next_record()).value for _ in range(2)] == [b'{"alert_id":"a"}'] * 2
        await until(lambda: pool.fetchval("SELECT count(*) = 0 FROM outbox"))


async def test_the_second_relay_takes_over_when_the_firsts_connection_ends(
    settings: Settings, pool: asyncpg.Pool, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_STANDBY_S", 0.05)
    leader = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = ("
    leader += "SELECT oid FROM pg_database WHERE datname = current_database())"
    asked = asyncio.Event()
    original = outbox.become_relay

    async def become_relay(db: asyncpg.Connection) -> bool:
        leads = await original(db)
        if not leads:
            asked.set()
        return leads

    monkeypatch.setattr(outbox, "become_relay", become_relay)
    async with relaying(pool, sender, settings), reading(settings, BUDGET_ALERTS) as next_record:
        await until(lambda: pool.fetchval(leader))
        first = await pool.fetchval(leader)
        async with relaying(pool, sender, settings):
            await asyncio.wait_for(asked.wait(), 20)
            await put(pool, b"1")
            assert (await next_record()).value == b"1"
            await until(lambda: pool.fetchval("SELECT count(*) = 0 FROM outbox"))
            assert [row["pid"] for row in await pool.fetch(leader)] == [first]
            await pool.execute("SELECT pg_terminate_backend($1)", first)
            await put(pool, b"2")
            assert (await next_record()).value == b"2"
            await until(lambda: pool.fetchval(leader))
            assert first not in [row["pid"] for row in await pool.fetch(leader)]


async def test_a_message_that_is_too_large_is_cut_and_blocks_nobody(
    settings: Settings, pool: asyncpg.Pool, sender: Sender
) -> None:
    huge = b"x" * MAX_RECORD_BYTES
    async with pool.acquire() as db:
        await outbox.put_with_headers(db, [(Message(DEAD, b"k", huge), [("dlq_reason", b"not valid JSON")])])
    await put(pool, b"after")
    async with relaying(pool, sender, settings):
        async with reading(settings, BUDGET_ALERTS) as next_record:
            assert (await next_record()).value == b"after"
        async with reading(settings, DEAD) as next_record:
            letter = await next_record()
        await until(lambda: pool.fetchval("SELECT count(*) = 0 FROM outbox"))
    assert dict(letter.headers) == {"dlq_reason": b"not valid JSON", "dlq_truncated": b"%d" % len(huge)}
    assert len(letter.value) > MAX_RECORD_BYTES - 128 * 1024
    assert letter.key == b"k"


async def test_what_only_the_broker_finds_too_large_is_cut_further(
    settings: Settings, pool: asyncpg.Pool, sender: Sender
) -> None:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    limited = NewTopic(settings.topic_prefix + "limited.dlq", 1, 1, topic_configs={"max.message.bytes": "100000"})
    await admin.create_topics([limited])
    await admin.close()
    async with pool.acquire() as db:
        for value in (b"small", b"x" * 200_000, b"also small"):
            await outbox.put_with_headers(db, [(Message("limited.dlq", b"k", value), [])])
    async with relaying(pool, sender, settings), reading(settings, "limited.dlq") as next_record:
        sizes: set[int] = set()
        while len(sizes) < 3:  # a neighbour may come twice, when their batch was refused
            sizes.add(len((await next_record()).value))
        await until(lambda: pool.fetchval("SELECT count(*) = 0 FROM outbox"))
    assert sizes >= {5, 10}
    assert max(sizes) < 100_000
