"""The usage events of a busy platform, always the same ones; and how round trips are timed."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from aiokafka import AIOKafkaProducer

COMPONENTS = ("rhetor", "apollo", "ergon", "codex", "sophia", "engram", "athena", "hermes")
MODELS = (
    ("anthropic", "claude-sonnet-4-5"),
    ("openai", "gpt-5"),
    ("openai", "gpt-5-mini"),
    ("google", "gemini-2.5-pro"),
)
SESSION_EVENTS, OPEN_SESSIONS = 20, 40


def usage_events(count: int, *, seed: int = 20_26) -> Iterator[tuple[bytes, bytes]]:
    """
    Key and value of *count* events over the last hour, oldest first: sessions of 20 calls, 40 of them at a time,
    each of one component and model. A third of the calls read from the cache.
    """
    chance = random.Random(seed)  # the same events in every round
    begin = datetime.now(UTC) - timedelta(hours=1)
    sessions = [
        (chance.choice(COMPONENTS), *chance.choice(MODELS)) for _ in range(count // SESSION_EVENTS + OPEN_SESSIONS)
    ]
    for index in range(count):
        session = index // (SESSION_EVENTS * OPEN_SESSIONS) * OPEN_SESSIONS + index % OPEN_SESSIONS
        component, provider, model = sessions[min(session, len(sessions) - 1)]
        tokens = chance.randrange(200, 20_000)
        event = {
            "event_id": str(UUID(int=chance.getrandbits(128), version=4)),
            "occurred_at": (begin + timedelta(hours=1) * (index / count)).isoformat(),
            "component": component,
            "provider": provider,
            "model": model,
            "input_tokens": tokens,
            "output_tokens": chance.randrange(20, 2_000),
            "cache_read_input_tokens": tokens // 2 if index % 3 == 0 else 0,
            "context_id": f"session-{session}",
            "user": f"user-{session % 25}",
            "tags": {"team": f"team-{session % 7}", "env": "production"},
        }
        yield component.encode(), json.dumps(event).encode()


async def produce(bootstrap_servers: str, topic: str, count: int) -> int:
    """Put the events on *topic*; returns how many bytes their values are together."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, linger_ms=5, max_batch_size=256 * 1024, enable_idempotence=True
    )
    await producer.start()
    size = 0
    try:
        for key, value in usage_events(count):
            size += len(value)
            await producer.send(topic, value, key=key)
        await producer.flush()
    finally:
        await producer.stop()
    return size


Ask = Callable[[], Awaitable[None]]


async def one_at_a_time(ask: Ask, count: int) -> dict[str, float]:
    """Percentiles of *count* round trips, each after the one before, in ms."""
    times_ms = []
    for _ in range(count):
        began = time.perf_counter()
        await ask()
        times_ms.append((time.perf_counter() - began) * 1000)
    cuts = statistics.quantiles(times_ms, n=100, method="inclusive")
    return {"p50_ms": cuts[49], "p90_ms": cuts[89], "p99_ms": cuts[98]}


async def many_at_once(ask: Ask, count: int, in_flight: int) -> float:
    """Round trips per second with *in_flight* of them open all the time."""
    waiting = iter(range(count))

    async def asker() -> None:
        for _ in waiting:
            await ask()

    began = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(in_flight)))
    return count / (time.perf_counter() - began)
