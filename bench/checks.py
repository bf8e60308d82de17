"""Checks: how long a question takes over the topics, and how many a second one decider answers."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.load import Ask, many_at_once, one_at_a_time
from bench.stack import Stack, unless_it_dies
from budget_bus.errors import BudgetUnavailable
from budget_bus.policy.budget import LimitSpec, Policy, Unit
from budget_bus.policy.scope import parse_scope
from budget_bus.policy.windows import Period
from budget_bus.producers.bus import BudgetBus
from budget_bus.store.limits import set_limit
from budget_bus.store.pool import open_pool

ECHO, REPLY = "echo.requested", "echo.response"
FLOOR_TOPICS = {ECHO: 4, REPLY: 16}
IN_FLIGHT = 64
QUESTION = {"component": "bench", "provider": "anthropic", "model": "claude-sonnet-4-5", "estimated_tokens": 1000}
_PATIENCE_S = 300
_START_S = 60


@dataclass(frozen=True, slots=True)
class Size:
    """How many round trips are timed: one after the other, and with 64 in flight."""

    alone: int
    together: int


async def ours(stack: Stack, size: Size) -> dict[str, float]:
    """One decider and one budget, asked through the SDK."""
    database_url = await stack.new_database(migrated=True)
    async with open_pool(stack.settings(database_url), size=1) as pool:
        huge = 10**15  # a million dollars in nanos: every question is allowed and holds its estimate
        spec = LimitSpec("daily", parse_scope({}), Period.DAILY, Unit.COST, huge, "USD", Policy.HARD_LIMIT)
        await set_limit(pool, spec, actor="bench")
    async with BudgetBus(stack.bootstrap_servers, topic_prefix=stack.prefix) as bus:

        async def ask() -> None:
            answer = await bus.check(**QUESTION, timeout_s=10)
            if not (answer.allowed and answer.hold and len(answer.budgets) == 1):
                raise RuntimeError(f"not what is to be measured: {answer}")

        async with stack.role("decider", database_url) as child:
            return await unless_it_dies(child, _measure(ask, size), patience_s=_PATIENCE_S)


async def floor(stack: Stack, size: Size) -> dict[str, float]:
    """The bare echo, asked by a bare client."""
    database_url = await stack.new_database(migrated=False)
    group = f"floor.{secrets.token_hex(4)}"
    names = (stack.prefix + ECHO, group, stack.prefix + REPLY)
    async with (
        _asker(stack) as asker,
        stack.floor("floor_echo", stack.bootstrap_servers, *names, database_url) as child,
    ):
        return await unless_it_dies(child, _measure(asker.ask, size), patience_s=_PATIENCE_S)


async def _measure(ask: Ask, size: Size) -> dict[str, float]:
    await _answered_once(ask)
    await many_at_once(ask, 4 * IN_FLIGHT, IN_FLIGHT)  # caches and connections are warm from here on
    times = await one_at_a_time(ask, size.alone)
    return {**times, "per_second": await many_at_once(ask, size.together, IN_FLIGHT)}


async def _answered_once(ask: Ask) -> None:
    deadline = asyncio.get_running_loop().time() + _START_S
    while True:
        try:
            async with asyncio.timeout(2):
                return await ask()
        except (BudgetUnavailable, TimeoutError):
            if asyncio.get_running_loop().time() > deadline:
                raise


@dataclass(slots=True)
class _Asker:
    """The least that a question and its answer need: a future by correlation id."""

    producer: AIOKafkaProducer
    topic: str
    waiting: dict[bytes, asyncio.Future[None]] = field(default_factory=dict)

    async def ask(self) -> None:
        correlation_id = uuid4().bytes
        answer = self.waiting[correlation_id] = asyncio.get_running_loop().create_future()
        headers = [("correlation_id", correlation_id), ("reply_partition", b"0")]
        try:
            await self.producer.send(self.topic, _VALUE, key=b"bench", headers=headers)
            await answer
        finally:
            del self.waiting[correlation_id]

    async def hear(self, consumer: AIOKafkaConsumer) -> None:
        async for record in consumer:
            answer = self.waiting.get(record.headers[0][1])
            if answer and not answer.done():
                answer.set_result(None)


_VALUE = json.dumps({"request_id": str(uuid4()), **QUESTION}).encode()


@asynccontextmanager
async def _asker(stack: Stack) -> AsyncIterator[_Asker]:
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers, linger_ms=0, enable_idempotence=True)
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.bootstrap_servers, fetch_max_wait_ms=50)
    partition = TopicPartition(stack.prefix + REPLY, 0)
    await producer.start()
    await consumer.start()
    consumer.assign([partition])
    await consumer.seek_to_end(partition)
    asker = _Asker(producer, stack.prefix + ECHO)
    hearing = asyncio.create_task(asker.hear(consumer))
    try:
        yield asker
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        await consumer.stop()
        await producer.stop()
