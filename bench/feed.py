"""A feed: how fast alerts reach many WebSocket clients of one gateway while one is stuck, and what a client takes."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from bench.listeners import Listener, Tally, connected, disconnect, stuck
from bench.stack import ROOT, Stack, unless_it_dies
from budget_bus.events.topics import BUDGET_ALERTS
from budget_bus.local.child import Child
from budget_bus.local.ports import free_port

ONE_BY_ONE = 20  # alerts, each published when all clients have the one before
TOGETHER = 100  # alerts that are published at once
_PATIENCE_S = 240
_START_S = 60
_PATH = "/ws/alerts"
_EXAMPLE = json.loads((ROOT / "schemas/examples/budget.alerts/good/approaching.json").read_text())
# What a socket buffers is less than this, so that sending to the stuck client blocks.
_FILLING = 100
_FILLER = "x" * 64 * 1024


async def ours(stack: Stack, clients: int) -> dict[str, float]:
    """One gateway, and one client more that reads nothing."""
    database_url, port = await stack.new_database(migrated=True), free_port()
    async with stack.role("gateway", database_url, BUDGET_PORT=str(port)) as child, _publisher(stack) as publisher:
        await _listens(port)
        silent = await stuck(_PATH, port)
        for _ in range(_FILLING):
            await publisher.publish(message=_FILLER)
        numbers = await unless_it_dies(child, _measure(child, publisher, clients, port), patience_s=_PATIENCE_S)
        disconnect([silent])
        return numbers


async def floor(stack: Stack, clients: int) -> dict[str, float]:
    """A bare server."""
    port = free_port()
    names = (stack.bootstrap_servers, stack.prefix + BUDGET_ALERTS, str(port))
    async with stack.floor("floor_feed", *names) as child, _publisher(stack) as publisher:
        await _listens(port)
        return await unless_it_dies(child, _measure(child, publisher, clients, port), patience_s=_PATIENCE_S)


async def _measure(child: Child, publisher: _Publisher, count: int, port: int) -> dict[str, float]:
    first, tally = await connected(1, _PATH, port)  # what comes with the first client is not the others' memory
    await publisher.publish()
    while publisher.published[-1] not in tally.heard:  # what the stuck client was filled with comes before it
        await tally.until(tally.heard.total() + 1)
    before = _resident_kib(child)
    clients, tally = await connected(count, _PATH, port)
    taken = _resident_kib(child) - before
    latencies_ms = await _one_by_one(publisher, tally, count)
    per_second = await _together(publisher, tally, count)
    _assert_each_once(clients, tally, publisher)
    disconnect([*first, *clients])
    cuts = statistics.quantiles(latencies_ms, n=100, method="inclusive")
    return {"p50_ms": cuts[49], "p99_ms": cuts[98], "delivered_per_second": per_second, "kib_per_client": taken / count}


async def _one_by_one(publisher: _Publisher, tally: Tally, count: int) -> list[float]:
    """How long each alert took to each client, from before it was published."""
    latencies_ms: list[float] = []
    for number in range(1, ONE_BY_ONE + 1):
        began = time.perf_counter()
        await publisher.publish()
        await tally.until(number * count)
        latencies_ms += [(at - began) * 1000 for at in tally.arrivals_s[-count:]]
    return latencies_ms


async def _together(publisher: _Publisher, tally: Tally, count: int) -> float:
    """Alerts that reach a client per second, over all clients."""
    began = time.perf_counter()
    await asyncio.gather(*(publisher.publish() for _ in range(TOGETHER)))
    await tally.until((ONE_BY_ONE + TOGETHER) * count)
    return TOGETHER * count / (time.perf_counter() - began)


def _assert_each_once(clients: list[Listener], tally: Tally, publisher: _Publisher) -> None:
    wanted = publisher.published[-(ONE_BY_ONE + TOGETHER) :]
    wrong = sum(sorted(client.heard) != sorted(wanted) for client in clients)
    if wrong or tally.lost:
        raise RuntimeError(f"{wrong} clients did not hear each alert once, {tally.lost} were closed")


class _Publisher:
    """Puts alerts on the topic, as the relay does."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self.published: list[bytes] = []
        self._producer, self._topic = producer, topic

    async def publish(self, **fields: str) -> None:
        alert = {**_EXAMPLE, "alert_id": str(uuid4()), **fields}
        self.published.append(alert["alert_id"].encode())
        await self._producer.send_and_wait(self._topic, json.dumps(alert, separators=(",", ":")).encode())


@asynccontextmanager
async def _publisher(stack: Stack) -> AsyncIterator[_Publisher]:
    async with AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers, enable_idempotence=True) as producer:
        yield _Publisher(producer, stack.prefix + BUDGET_ALERTS)


async def _listens(port: int) -> None:
    deadline = asyncio.get_running_loop().time() + _START_S
    while True:
        try:
            clients, _ = await connected(1, _PATH, port)
            return disconnect(clients)
        except OSError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.1)


def _resident_kib(child: Child) -> int:
    status = Path(f"/proc/{child.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
