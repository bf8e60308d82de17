"""Apache Kafka as our child: what it acknowledged survives kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from budget_bus.local.apache import ApacheKafka, open_apache
from budget_bus.local.child import start
from budget_bus.local.kafka import ApacheJars, plan, resolve
from budget_bus.local.trial import TrialBroker, open_trial

_RECORDS = 200


@pytest.fixture
async def broker(tmp_path: Path) -> ApacheKafka:
    """A broker of its own for the test, as the test kills it."""
    chosen = await resolve(tmp_path, configured=None, environ=os.environ, say=print)
    if not isinstance(chosen, ApacheKafka):
        reason = f"no Apache Kafka on this machine: {plan(os.environ)}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return chosen


async def test_kill_9_keeps_acknowledged_records_and_the_address(broker: ApacheKafka, tmp_path: Path) -> None:
    child = await start(broker, tmp_path / "kafka.log")
    await _make_topic(broker.bootstrap_servers)
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all") as producer:
        sent = [await producer.send("kept", b"%d" % n) for n in range(_RECORDS)]
        await asyncio.gather(*sent)
        child.signal(signal.SIGKILL)
        await child.wait()

    again = open_apache(tmp_path, broker.jars, broker.java)
    assert again == broker
    child = await start(again, tmp_path / "kafka.log")
    try:
        assert await _read(again.bootstrap_servers) == [b"%d" % n for n in range(_RECORDS)]
    finally:
        await child.stop(10)


async def test_the_second_start_downloads_nothing(broker: ApacheKafka) -> None:
    assert isinstance(plan(os.environ), ApacheJars)


async def test_the_trial_broker_serves_and_keeps_records_over_a_clean_stop(tmp_path: Path) -> None:
    broker: TrialBroker = open_trial(tmp_path)
    child = await start(broker, tmp_path / "kafka.log")
    await _make_topic(broker.bootstrap_servers)
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait("kept", b"0")
    await child.stop(10)
    child = await start(broker, tmp_path / "kafka.log")
    try:
        assert await _read(broker.bootstrap_servers, records=1) == [b"0"]
    finally:
        await child.stop(10)


async def _make_topic(servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("kept", num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def _read(servers: str, *, records: int = _RECORDS) -> list[bytes | None]:
    partition = TopicPartition("kept", 0)
    values: list[bytes | None] = []
    async with asyncio.timeout(30), AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        while len(values) < records:
            values.append((await consumer.getone()).value)
    return values
