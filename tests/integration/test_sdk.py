"""The SDK on a real broker: records, checks from several askers at once, guards, alerts, and a broker that goes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OutOfOrderSequenceNumber
from aiokafka.structs import TopicPartition

from budget_bus.errors import BudgetExceeded, BudgetUnavailable, ConfigError, Conflict, Rejected
from budget_bus.events.facts import BudgetAlert
from budget_bus.events.topics import BUDGET_ALERTS, CHECK_RESPONSE, USAGE_RECORDED
from budget_bus.kafka import connection
from budget_bus.local.child import start
from budget_bus.local.trial import open_trial
from budget_bus.policy.budget import LimitSpec, Policy, Unit
from budget_bus.policy.scope import Scope
from budget_bus.policy.windows import Period
from budget_bus.producers import BudgetBus
from budget_bus.producers.closing import close_consumer
from budget_bus.producers.replies import NoAnswer
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings, load_settings
from budget_bus.store.limits import set_limit

CALL: dict[str, Any] = {"component": "rhetor", "provider": "anthropic", "model": "claude-3-opus"}
USED: dict[str, Any] = {**CALL, "input_tokens": 1000, "output_tokens": 100}
PATIENT_S = 30.0  # the first question also waits until the decider has joined its group


@pytest.fixture
async def topics(kafka: str, settings: Settings) -> None:
    await apply_topics(settings)


@pytest.fixture
async def bus(topics: None, settings: Settings) -> AsyncIterator[BudgetBus]:
    async with BudgetBus.from_settings(settings) as bus:
        yield bus


async def records_of(settings: Settings, topic: str, count: int) -> list[Any]:
    """The first *count* records of a topic, waiting for them."""
    consumer = AIOKafkaConsumer(**connection(settings), auto_offset_reset="earliest")
    await consumer.start()
    try:
        parts = 16 if topic == CHECK_RESPONSE else settings.kafka_partitions
        consumer.assign([TopicPartition(settings.topic_prefix + topic, part) for part in range(parts)])
        found: list[Any] = []
        while len(found) < count:
            for records in (await consumer.getmany(timeout_ms=5000)).values():
                found += records
        return found
    finally:
        await close_consumer(consumer)


async def test_a_record_is_on_the_topic_as_it_was_said(bus: BudgetBus, settings: Settings) -> None:
    event_id = await bus.record(**USED)
    (record,) = await records_of(settings, USAGE_RECORDED, 1)
    assert record.key == b"rhetor"
    assert json.loads(record.value) == {**USED, "event_id": str(event_id)}


async def test_many_records_of_a_component_keep_their_order(bus: BudgetBus, settings: Settings) -> None:
    given = [uuid4() for _ in range(200)]
    assert await bus.record_many({**USED, "event_id": i} for i in given) == given
    records = await records_of(settings, USAGE_RECORDED, 200)
    assert [UUID(json.loads(record.value)["event_id"]) for record in records] == given


async def test_one_bad_event_keeps_all_from_being_sent(bus: BudgetBus, settings: Settings) -> None:
    with pytest.raises(Rejected, match=r"1\.model: is required"):
        await bus.record_many([USED, {**USED, "model": None}])
    await bus.record(**USED)
    assert len(await records_of(settings, USAGE_RECORDED, 1)) == 1


async def test_two_askers_at_once_each_get_their_own_answers(bus: BudgetBus, settings: Settings) -> None:
    async with decider(settings), BudgetBus.from_settings(settings) as other:
        ids = {asker: [uuid4() for _ in range(25)] for asker in (bus, other)}
        answers = await asyncio.gather(
            *(
                asker.check(**CALL, request_id=request_id, estimated_tokens=10, timeout_s=PATIENT_S)
                for asker, own in ids.items()
                for request_id in own
            )
        )
        assert [answer.request_id for answer in answers] == [i for own in ids.values() for i in own]


async def test_the_same_question_asked_twice_at_once_is_answered_twice(bus: BudgetBus, settings: Settings) -> None:
    async with decider(settings):
        question = {**CALL, "request_id": uuid4(), "estimated_tokens": 10, "timeout_s": PATIENT_S}
        first, second = await asyncio.gather(bus.check(**question), bus.check(**question))
        assert first == second
        with pytest.raises(Conflict):
            await bus.check(**{**question, "estimated_tokens": 11})


async def test_no_answer_in_time_carries_the_request_id(bus: BudgetBus) -> None:
    request_id = uuid4()
    with pytest.raises(NoAnswer) as caught:
        await bus.check(**CALL, request_id=request_id, estimated_tokens=1, timeout_s=0.3)
    assert caught.value.request_id == str(request_id)


async def test_answers_to_others_and_late_ones_are_ignored(bus: BudgetBus) -> None:
    await bus.listen()
    listener = bus._asker.listener
    assert listener is not None
    mine = listener.expect("mine")

    async def answer(*headers: tuple[str, bytes], value: bytes = b"{}") -> None:
        topic = bus.topic(CHECK_RESPONSE)
        await bus.sender.send(topic, key=b"k", value=value, headers=headers, partition=listener.partition)

    await answer(("correlation_id", b"somebody else's"))
    await answer()
    await answer(("correlation_id", b"\xff\xfe"))
    await answer(("correlation_id", b"mine"), value=b"1")
    await answer(("correlation_id", b"mine"), value=b"2")
    assert (await mine).value == b"1"


async def test_a_lost_position_fails_who_waits_and_goes_on_from_the_end(bus: BudgetBus) -> None:
    await bus.listen()
    listener = bus._asker.listener
    assert listener is not None
    assert listener._consumer is not None
    waiting = listener.expect("waiting")
    listener._consumer.seek(TopicPartition(listener.topic, listener.partition), 1_000_000)
    with pytest.raises(NoAnswer, match="position among the answers was lost"):
        await waiting
    # Sent again until it is heard: what comes before the new position is taken is rightly missed.
    again = listener.expect("again")
    while not again.done():
        headers = [("correlation_id", b"again")]
        await bus.sender.send(listener.topic, key=b"k", value=b"3", headers=headers, partition=listener.partition)
        await asyncio.wait({again}, timeout=0.2)
    assert (again.result().value, listener.positioned) == (b"3", True)


async def test_a_partition_that_is_not_there_is_the_askers_fault(bus: BudgetBus) -> None:
    with pytest.raises(Rejected, match="has no partition 99"):
        await bus.sender.send(bus.topic(CHECK_RESPONSE), key=b"k", value=b"v", partition=99)


async def test_a_record_too_large_is_refused_before_it_is_sent(bus: BudgetBus) -> None:
    with pytest.raises(Rejected, match="too large"):
        await bus.sender.send(bus.topic(USAGE_RECORDED), key=b"k", value=b"v" * 6_000_000)


async def test_a_stuck_producer_is_replaced_and_nothing_waiting_is_lost(bus: BudgetBus, settings: Settings) -> None:
    await bus.record(**USED)
    stuck = bus.sender._producer
    assert stuck is not None
    # A sequence that the broker has not seen is what a blip leaves behind (aio-libs/aiokafka #1017).
    for part in range(settings.kafka_partitions):
        stuck._txn_manager.increment_sequence_number(TopicPartition(bus.topic(USAGE_RECORDED), part), 1000)
    ids = await bus.record_many([USED] * 20)
    assert bus.sender._producer is not stuck
    records = await records_of(settings, USAGE_RECORDED, 21)
    assert {UUID(json.loads(record.value)["event_id"]) for record in records} > set(ids)
    assert OutOfOrderSequenceNumber.retriable is False


async def test_a_guard_settles_its_hold_and_a_void_gives_it_back(
    bus: BudgetBus, settings: Settings, pool: asyncpg.Pool
) -> None:
    async with settler(settings), decider(settings):
        async with bus.guard(**CALL, estimated_tokens=1000, timeout_s=PATIENT_S) as settled:
            event_id = await settled.settle(input_tokens=10, output_tokens=5)
        async with bus.guard(**CALL, estimated_tokens=1000) as voided:
            await voided.void("not sent")
        async with bus.guard(**CALL, estimated_tokens=1000) as left:
            pass
        states = await states_once_closed(pool, settled.decision.request_id, voided.decision.request_id)
        assert states == {settled.decision.request_id: "settled", voided.decision.request_id: "voided"}
        assert await pool.fetchval("SELECT event_id FROM hold WHERE state = 'settled'") == event_id
        assert await pool.fetchval("SELECT request_id FROM hold WHERE state = 'open'") == left.decision.request_id
        with pytest.raises(RuntimeError, match="already"):
            await settled.settle(input_tokens=10, output_tokens=5)


async def states_once_closed(pool: asyncpg.Pool, *request_ids: UUID) -> dict[UUID, str]:
    async with asyncio.timeout(30):
        while True:
            rows = await pool.fetch(
                "SELECT request_id, state FROM hold WHERE request_id = ANY ($1) AND state <> 'open'", request_ids
            )
            if len(rows) == len(request_ids):
                return {row["request_id"]: row["state"] for row in rows}


async def test_a_denied_guard_does_not_enter(bus: BudgetBus, settings: Settings, pool: asyncpg.Pool) -> None:
    spec = LimitSpec("none", Scope(), Period.DAILY, Unit.COST, 0, "USD", Policy.HARD_LIMIT)
    await set_limit(pool, spec, actor="test")
    async with decider(settings):
        with pytest.raises(BudgetExceeded) as caught:
            async with bus.guard(**CALL, estimated_tokens=1, timeout_s=PATIENT_S):
                pytest.fail("a denied call was let through")
    assert caught.value.info["action"] == "deny"
    assert caught.value.info["budgets"][0]["name"] == "none"


async def test_every_subscriber_hears_every_alert(bus: BudgetBus) -> None:
    example = next((Path(__file__).parents[2] / "schemas/examples/budget.alerts/good").glob("*.json"))
    alert = BudgetAlert.model_validate_json(example.read_bytes())
    topic = bus.topic(BUDGET_ALERTS)
    await bus.sender.send(topic, key=b"b", value=b"not an alert")
    await bus.sender.send(topic, key=b"b", value=example.read_bytes())
    for _ in range(2):
        async with aclosing(bus.alerts(from_beginning=True)) as feed:
            assert await anext(feed) == alert


async def test_a_broker_that_goes_is_unavailable_and_one_that_returns_is_used_again(tmp_path: Path) -> None:
    try:
        broker = open_trial(tmp_path)
    except ConfigError as error:
        pytest.skip(str(error))
    await broker.prepare()
    settings = load_settings({}, env_file=Path(os.devnull), kafka_bootstrap_servers=broker.bootstrap_servers)
    child = await start(broker, tmp_path / "broker.log")
    try:
        await apply_topics(settings)
        async with BudgetBus.from_settings(settings) as bus:
            await bus.record(**USED)
            await bus.listen()
            await child.stop(10)
            question = {**CALL, "request_id": UUID(int=1), "estimated_tokens": 1, "timeout_s": 0.5}
            with pytest.raises(BudgetUnavailable) as caught:
                await bus.check(**question)
            assert not isinstance(caught.value, NoAnswer)
            assert caught.value.request_id == str(UUID(int=1))
            with pytest.raises(BudgetUnavailable):
                await bus.sender.topics(timeout_s=1)
            child = await start(broker, tmp_path / "broker.log")
            await bus.record(**USED)
            with pytest.raises(NoAnswer):  # the broker takes the question again; nobody is there to answer it
                await bus.check(**{**question, "timeout_s": 5.0})
    finally:
        await child.stop(10)
