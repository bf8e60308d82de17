"""The relay: what the books want published leaves here, at least once, in order per key, by one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import asyncpg
import structlog

from budget_bus import metrics
from budget_bus.errors import BudgetUnavailable
from budget_bus.events.topics import BUDGET_UPDATES
from budget_bus.producers.sender import Sender
from budget_bus.store import outbox
from budget_bus.store.outbox import Waiting

log = structlog.get_logger()

_BATCH = 500
_POLL_S = 0.1
_STANDBY_S = 1.0


async def relay(pool: asyncpg.Pool, sender: Sender, *, topic_prefix: str, stopping: asyncio.Event) -> None:
    """
    Publish the outbox until *stopping*. A second relay stands by and takes over when the first one's connection ends.

    A message is deleted after Kafka has acknowledged it; a crash between the two publishes it again, with the same ids.
    """
    while not stopping.is_set():
        try:
            async with pool.acquire() as connection:
                try:
                    await _lead(connection, sender, topic_prefix, stopping)
                finally:
                    # The lock belongs to the session, and the session must not go back to the pool with it.
                    connection.terminate()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, BudgetUnavailable, TimeoutError) as error:
            log.warning("the relay starts again", reason=f"{type(error).__name__}: {error}")
        await _pause(stopping, _STANDBY_S)


async def _lead(connection: asyncpg.Connection, sender: Sender, prefix: str, stopping: asyncio.Event) -> None:
    while not await outbox.become_relay(connection):
        await _pause(stopping, _STANDBY_S)
        if stopping.is_set():
            return
    while not stopping.is_set():
        if not await publish_once(connection, sender, topic_prefix=prefix):
            metrics.OUTBOX_WAITING.set(0)
            await _pause(stopping, _POLL_S)


async def publish_once(connection: asyncpg.Connection, sender: Sender, *, topic_prefix: str) -> int:
    """
    Publish the oldest messages and delete them; returns how many there were.

    Raises:
        BudgetUnavailable: the broker did not acknowledge one of them; all of them stay and come again.
    """
    waiting = await outbox.next_messages(connection, _BATCH)
    if not waiting:
        return 0
    metrics.OUTBOX_WAITING.set(await outbox.waiting(connection) if len(waiting) == _BATCH else len(waiting))
    sends = [
        sender.send_nowait(
            topic_prefix + item.message.topic, key=item.message.key, value=item.message.value, headers=item.headers
        )
        for item in conflated(waiting)
    ]
    await asyncio.gather(*sends)
    await outbox.published(connection, [item.outbox_id for item in waiting])
    for item in waiting:
        metrics.PUBLISHED.labels(item.message.topic).inc()
    return len(waiting)


def conflated(waiting: Sequence[Waiting]) -> list[Waiting]:
    """Of several updates of one budget's window only the last is news; everything else stays as it is."""
    last: dict[bytes | None, int] = {}
    for index, item in enumerate(waiting):
        if item.message.topic == BUDGET_UPDATES:
            last[item.message.key] = index
    return [
        item
        for index, item in enumerate(waiting)
        if item.message.topic != BUDGET_UPDATES or last[item.message.key] == index
    ]


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
