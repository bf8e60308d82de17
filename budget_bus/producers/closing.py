"""Closes aiokafka's clients within a bounded time, also when the broker is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

PATIENCE_S = 5.0

log = logging.getLogger(__name__)


async def close_producer(producer: AIOKafkaProducer, *, patience_s: float = PATIENCE_S) -> None:
    """Send what is under way for at most *patience_s* and disconnect; the futures of the rest never end."""
    flushing = asyncio.create_task(producer.flush())
    await asyncio.wait({flushing}, timeout=patience_s)
    if flushing.done():
        await _ended(asyncio.create_task(producer.stop()))
        return
    # Idempotent records never expire by themselves: stop() would wait for a broker that is away for ever.
    flushing.cancel()
    producer._closed = True
    await _ended(asyncio.create_task(producer._sender.close()))
    await producer.client.close()


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Disconnect; no rebalance listener is called."""
    # In a task of its own: with the broker away, the fetcher's close() cancels a task and then lets that task's
    # CancelledError out, which would look as if we had been cancelled.
    await _ended(asyncio.create_task(consumer.stop()))
    await consumer._client.close()


async def _ended(closing: asyncio.Task[None]) -> None:
    await asyncio.wait({closing}, timeout=PATIENCE_S)
    if not closing.done():
        closing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await closing
    if not closing.cancelled() and (error := closing.exception()) is not None:
        log.debug("closing a Kafka client: %r", error)
