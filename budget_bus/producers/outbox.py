"""The relay: what the books want published leaves here, at least once, in order per key, by one process at a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress

import asyncpg
import structlog
from aiokafka.structs import RecordMetadata

from budget_bus import metrics
from budget_bus.errors import BudgetUnavailable, Rejected
from budget_bus.events.topics import BUDGET_UPDATES
from budget_bus.producers.sender import MAX_RECORD_BYTES, Sender
from budget_bus.store import outbox
from budget_bus.store.outbox import Message, Waiting

log = structlog.get_logger()

_BATCH = 500
_POLL_S = 0.1
_STANDBY_S = 1.0
_BATCH_BYTES = 8 * 1024 * 1024
# What fits a topic of ours, what fits a broker's default (message.max.bytes is 1 MiB), what fits anywhere.
_SIZES = (MAX_RECORD_BYTES - 64 * 1024, 960 * 1024, 16 * 1024)
_WINDOW_START = re.compile(rb'"window_start":\s*("[^"]*"|null)')
_CONTEXT = re.compile(rb'"context_id":\s*("(?:[^"\\]|\\.)*"|null)')


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
    now = _deliverable(waiting)
    sent = conflated(now)
    outcomes = await asyncio.gather(*(_send(sender, item, topic_prefix) for item in sent), return_exceptions=True)
    stuck: set[int] = set()
    for item, outcome in zip(sent, outcomes, strict=True):
        if isinstance(outcome, Rejected):
            stuck |= {item.outbox_id} - await _publish_cut(sender, item, topic_prefix)
        elif isinstance(outcome, BaseException):
            raise outcome
    done = [item for item in now if item.outbox_id not in stuck]
    await outbox.published(connection, [item.outbox_id for item in done])
    for item in done:
        metrics.PUBLISHED.labels(item.message.topic).inc()
    return len(done)


async def _publish_cut(sender: Sender, item: Waiting, topic_prefix: str) -> set[int]:
    """
    Publish *item* with its value cut to what the topic takes; returns its id, or nothing if no size will do.

    The first try is with all of it: the broker refuses a whole batch, so perhaps only a neighbour was too large.
    """
    for fitting in (item, *(cut(item, size) for size in _SIZES)):
        try:
            await _send(sender, fitting, topic_prefix)
        except Rejected as error:
            refused = error
            continue
        if fitting is not item:
            log.error("a message was too large and was cut", topic=item.message.topic, outbox_id=item.outbox_id)
        return {item.outbox_id}
    # It stays where it is, and the others go past it.
    log.error("a message cannot be published", topic=item.message.topic, outbox_id=item.outbox_id, reason=str(refused))
    return set()


def _send(sender: Sender, item: Waiting, topic_prefix: str) -> asyncio.Future[RecordMetadata]:
    topic, key, value = item.message
    return sender.send_nowait(topic_prefix + topic, key=key, value=value, headers=item.headers)


def cut(item: Waiting, size: int) -> Waiting:
    """
    *item* in at most about *size* bytes: the value's beginning, and without the headers that do not fit beside it.

    The header `dlq_truncated` says how many bytes the value had. What tells of the record's origin is kept.
    """
    topic, key, value = item.message
    key = key if len(key or b"") <= size // 4 else None
    marks = [("dlq_truncated", str(len(value or b"")).encode())]
    room = size - len(marks[0][0]) - len(key or b"")
    for name, text in sorted(item.headers, key=lambda header: not header[0].startswith("dlq_")):
        if len(name.encode()) + len(text) <= room // 2:
            marks.append((name, text))
            room -= len(name.encode()) + len(text)
    return item._replace(message=Message(topic, key, value and value[:room]), headers=marks)


def _deliverable(waiting: Sequence[Waiting]) -> Sequence[Waiting]:
    """As much of the queue's head as a send's deadline is enough for; one message at least."""
    total = 0
    for index, item in enumerate(waiting):
        total += len(item.message.value or b"")
        if index and total > _BATCH_BYTES:
            return waiting[:index]
    return waiting


def conflated(waiting: Sequence[Waiting]) -> list[Waiting]:
    """Of several updates of one budget's window only the last is news; everything else stays as it is."""
    last = {_window(item): index for index, item in enumerate(waiting) if item.message.topic == BUDGET_UPDATES}
    return [
        item
        for index, item in enumerate(waiting)
        if item.message.topic != BUDGET_UPDATES or last[_window(item)] == index
    ]


def _window(item: Waiting) -> tuple[bytes | None, bytes | None, bytes | None]:
    # Cheaper than parsing; a quote inside of a JSON string is escaped, so no text can look like the fields.
    value = item.message.value or b""
    start, context = _WINDOW_START.search(value), _CONTEXT.search(value)
    return item.message.key, start and start[1], context and context[1]


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
