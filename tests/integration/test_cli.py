"""The `budget` command on a real broker and database: topics, dead letters, the check of the books, accepted losses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from budget_bus.cli.importing.meter import Meter
from budget_bus.cli.importing.outcome import wait_for_settler
from budget_bus.cli.importing.sending import Sent
from budget_bus.events.topics import TOPICS, USAGE_RECORDED
from budget_bus.kafka import connection
from budget_bus.policy.budget import LimitSpec, Policy, Unit
from budget_bus.policy.scope import Scope
from budget_bus.policy.windows import Period
from budget_bus.producers.sender import Sender
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import outbox_relay, settler
from budget_bus.settings import Settings
from budget_bus.store import admin
from budget_bus.store.limits import set_limit
from tests.integration.books import Books, check, usage
from tests.integration.budget_command import budget

DLQ = "usage.recorded.dlq"
BROKEN = b'\xff\x00{"component": "rhetor"'


@pytest.fixture
async def topics(kafka: str, settings: Settings) -> None:
    await budget(settings, "topics", "apply")


@pytest.fixture
async def sender(topics: None, settings: Settings) -> AsyncIterator[Sender]:
    opened = Sender(connection(settings))
    await opened.start()
    yield opened
    await opened.stop()


async def _send(sender: Sender, settings: Settings, value: bytes, *, partition: int = 0) -> int:
    headers = [("traceparent", b"00-1-2-03"), ("odd", b"\xfe")]
    topic = settings.topic_prefix + USAGE_RECORDED
    return (await sender.send(topic, key=b"rhetor", value=value, headers=headers, partition=partition)).offset


async def _until_read(pool: asyncpg.Pool, offsets: dict[int, int], *, patience_s: float = 30) -> None:
    """Wait as `budget import` does."""
    async with pool.acquire() as db:
        sent = Sent(first=dict(offsets), last=dict(offsets))
        await wait_for_settler(db, sent, Meter("reading"), patience_s=patience_s)


async def _letters(settings: Settings, wanted: int) -> list[dict[str, object]]:
    async with asyncio.timeout(60):
        while True:
            letters = (await budget(settings, "dlq", "list", DLQ, "--format", "json")).json
            if len(letters) >= wanted:
                return letters


@pytest.mark.usefixtures("topics")
async def test_topics_apply_makes_them_once(settings: Settings) -> None:
    again = await budget(settings, "topics", "apply")
    assert again.out.splitlines() == [f"{settings.topic_prefix}{spec.name}: as wanted" for spec in TOPICS]


async def test_topics_apply_says_how_a_topic_differs_and_leaves_it_as_it_is(kafka: str, settings: Settings) -> None:
    name = settings.topic_prefix + USAGE_RECORDED
    kept = {"retention.ms": "1000", "cleanup.policy": "compact", "max.message.bytes": "1000"}
    client = AIOKafkaAdminClient(**connection(settings))
    await client.start()
    await client.create_topics([NewTopic(name, num_partitions=1, replication_factor=1, topic_configs=kept)])
    await client.close()
    said = [line for line in await apply_topics(settings) if line.startswith(name + ":")]
    differences = (
        f"has 1 partitions, {settings.kafka_partitions} are wanted",
        "has retention.ms=1000, 604800000 is wanted",
        "has cleanup.policy=compact, delete is wanted",
        "has max.message.bytes=1000, 5242880 is wanted",
    )
    assert said == [f"{name}: {'; '.join(differences)}; left as it is"]


async def test_a_broken_message_is_listed_shown_and_replayed_and_its_neighbours_count(
    settings: Settings, pool: asyncpg.Pool, sender: Sender
) -> None:
    async with settler(settings), outbox_relay(settings):
        await _send(sender, settings, json.dumps(usage()).encode())
        offset = await _send(sender, settings, BROKEN)
        last = await _send(sender, settings, json.dumps(usage()).encode())
        await _until_read(pool, {0: last})
        assert await pool.fetchval("SELECT count(*) FROM ledger") == 2

        (letter,) = await _letters(settings, 1)
        assert letter["source"] == f"usage.recorded/0/{offset}"
        assert letter["key"] == "rhetor"
        assert "not valid JSON" in str(letter["reason"])
        listed = (await budget(settings, "dlq", "list")).out
        assert f"usage.recorded/0/{offset}" in listed

        shown = (await budget(settings, "dlq", "show", DLQ, letter["place"])).out
        assert "reason: not valid JSON" in shown
        assert "header traceparent: 00-1-2-03" in shown
        assert r"header odd: \xfe" in shown
        assert "ff 00 7b 22 63 6f 6d 70" in shown  # not text, so in hexadecimal

        replayed = await budget(settings, "dlq", "replay", DLQ, letter["place"])
        assert "replayed 1 dead letter" in replayed.out
        # Still broken: it comes back as a second letter, with its own headers and the new place it was read from.
        first, second = await _letters(settings, 2)
        assert second["key"] == first["key"]
        assert second["source"] != first["source"]
        shown = (await budget(settings, "dlq", "show", DLQ, second["place"])).out
        assert "header traceparent: 00-1-2-03" in shown


async def test_replaying_twice_counts_an_event_with_an_id_once(
    settings: Settings, pool: asyncpg.Pool, sender: Sender
) -> None:
    topic = settings.topic_prefix + DLQ
    value = json.dumps(usage()).encode()
    told = [("dlq_reason", b"a bug of ours"), ("dlq_topic", b"usage.recorded"), ("traceparent", b"1")]
    await sender.send(topic, key=b"rhetor", value=value, headers=told)
    await sender.send(topic, key=None, value=b"{}", headers=[])
    for _ in range(2):
        result = await budget(settings, "dlq", "replay", DLQ, code=1)
        assert "replayed 1 dead letter" in result.out
        assert "0:1: its header dlq_topic is ''" in result.err  # the one of unknown origin is left where it is
    # The same key, so the same partition: once this one is read, so are the replayed ones before it.
    last = await sender.send(settings.topic_prefix + USAGE_RECORDED, key=b"rhetor", value=json.dumps(usage()).encode())
    async with settler(settings):
        await _until_read(pool, {last.partition: last.offset})
    assert await pool.fetchval("SELECT count(*) FROM ledger") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(
            ["list", "usage.recorded"], 1, "its dead letters are in usage.recorded.dlq", id="the source's name"
        ),
        pytest.param(["show", DLQ, "17"], 2, "is not PARTITION:OFFSET", id="an offset without its partition"),
        pytest.param(["show", DLQ, "0:17"], 1, "no record at 0:17", id="an offset that is not there"),
        pytest.param(["show", DLQ, "9:0"], 1, "has no partition 9; it has 0", id="a partition that is not there"),
    ],
)
@pytest.mark.usefixtures("topics")
async def test_a_wrong_place_is_named(settings: Settings, arguments: list[str], code: int, says: str) -> None:
    assert says in (await budget(settings, "dlq", *arguments, code=code)).err


async def _some_books(pool: asyncpg.Pool) -> None:
    spec = LimitSpec("day", Scope(), Period.DAILY, Unit.COST, 10**12, "USD", policy=Policy.HARD_LIMIT)
    await set_limit(pool, spec, actor="test")
    books = Books(pool)
    await books.ask(check(), check(context_id="c"))
    await books.settle(usage(), usage(component="apollo"), usage(model="of-nobody", provider="nobody"))


async def test_db_check_is_green_on_true_books(settings: Settings, pool: asyncpg.Pool) -> None:
    await _some_books(pool)
    result = await budget(settings, "db", "check")
    assert "1 balances equal the sums" in result.out
    assert (await budget(settings, "db", "check", "--format", "json")).json == []


@pytest.mark.parametrize(
    ("tamper", "number", "where"),
    [
        pytest.param("UPDATE balance SET spent = spent + 1", "spent", "day", id="a nano more spent"),
        pytest.param("UPDATE balance SET held = held + 1", "held", "day", id="a nano more held"),
        pytest.param("UPDATE balance SET unconfirmed = 7", "unconfirmed", "day", id="something unconfirmed"),
        pytest.param("DELETE FROM ledger WHERE component = 'apollo'", "cost", "apollo", id="a ledger row that is gone"),
        pytest.param("UPDATE rollup SET output_tokens = 0 WHERE component = 'apollo'", "output_tokens", "apollo",
                     id="a rollup that forgot"),
        pytest.param("DELETE FROM rollup WHERE component = 'apollo'", "requests", "apollo", id="a rollup that is gone"),
        pytest.param("UPDATE rollup SET unpriced_tokens = 1 WHERE unpriced_requests > 0", "unpriced_tokens", "nobody",
                     id="unpriced tokens that were lost"),
    ],
)  # fmt: skip
async def test_db_check_turns_red(settings: Settings, pool: asyncpg.Pool, tamper: str, number: str, where: str) -> None:
    await _some_books(pool)
    await pool.execute(tamper)
    result = await budget(settings, "db", "check", "--format", "json", code=1)
    assert any(item["number"] == number and where in item["where"] for item in result.json)
    assert "do not add up" in result.err


async def test_db_check_tells_both_numbers_of_a_difference(settings: Settings, pool: asyncpg.Pool) -> None:
    await _some_books(pool)
    await pool.execute("UPDATE balance SET spent = spent + 1")
    result = await budget(settings, "db", "check", "--format", "csv", code=1)
    assert result.out.splitlines()[1].endswith(",spent,0.007000001,0.007")


async def test_db_check_without_books_says_what_makes_them(settings: Settings, postgres_url: str) -> None:
    result = await budget(settings, "db", "check", code=2, BUDGET_DATABASE_URL=postgres_url)
    assert "budget db migrate" in result.err


async def _lose_records(settings: Settings, pool: asyncpg.Pool, sender: Sender) -> int:
    """Let the log lose two records of partition 0 that were not read; returns the offset of the one after them."""
    async with settler(settings):
        last = await _send(sender, settings, json.dumps(usage()).encode())
        await _until_read(pool, {0: last})
    for _ in range(3):
        last = await _send(sender, settings, json.dumps(usage()).encode())
    cleaner = AIOKafkaAdminClient(**connection(settings))
    await cleaner.start()
    place = TopicPartition(settings.topic_prefix + USAGE_RECORDED, 0)
    await cleaner.delete_records({place: RecordsToDelete(before_offset=last)})
    await cleaner.close()
    return last


async def test_accept_loss_lets_a_halted_partition_go_on(
    settings: Settings, pool: asyncpg.Pool, sender: Sender
) -> None:
    last = await _lose_records(settings, pool, sender)
    async with settler(settings) as loop:
        await loop.ready.wait()
        async with pool.acquire() as db:
            assert (await admin.positions(db, USAGE_RECORDED))[0] == 1
        done = await budget(settings, "topics", "accept-loss", USAGE_RECORDED, 0)
        assert f"offsets 1 to {last - 1} are given up" in done.out
        await _until_read(pool, {0: last})
        row = await pool.fetchrow("SELECT before, after, actor FROM change WHERE kind = 'topic'")
        place = {"topic": USAGE_RECORDED, "partition": 0}
        assert tuple(row) == ({**place, "next_offset": 1}, {**place, "next_offset": last}, "cli")
    assert await pool.fetchval("SELECT count(*) FROM ledger") == 2


async def test_a_halted_partition_does_not_hold_up_the_others(
    settings: Settings, pool: asyncpg.Pool, sender: Sender
) -> None:
    await _lose_records(settings, pool, sender)
    other = await _send(sender, settings, json.dumps(usage()).encode(), partition=1)
    async with settler(settings):
        await _until_read(pool, {1: other}, patience_s=10)


async def test_accept_loss_refuses_when_nothing_was_lost(
    settings: Settings, pool: asyncpg.Pool, sender: Sender
) -> None:
    never = await budget(settings, "topics", "accept-loss", USAGE_RECORDED, 0, code=1)
    assert "was never read" in never.err
    async with settler(settings):
        last = await _send(sender, settings, json.dumps(usage()).encode())
        await _until_read(pool, {0: last})
    refused = await budget(settings, "topics", "accept-loss", USAGE_RECORDED, 0, code=1)
    assert "nothing is lost: usage.recorded/0 is read up to offset 1 and the log begins at 0" in refused.err
    assert "has no partition 99" in (await budget(settings, "topics", "accept-loss", USAGE_RECORDED, 99, code=1)).err


async def test_a_command_finds_no_service_and_names_the_fix(settings: Settings, pool: asyncpg.Pool) -> None:
    absent = {"BUDGET_DATABASE_URL": "", "BUDGET_KAFKA_BOOTSTRAP_SERVERS": ""}
    result = await budget(settings, "topics", "accept-loss", USAGE_RECORDED, 0, code=2, **absent)
    assert "BUDGET_DATABASE_URL and BUDGET_KAFKA_BOOTSTRAP_SERVERS are not set" in result.err
    assert "budget up" in result.err
