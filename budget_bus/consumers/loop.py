"""
The loop under every consumer: poll, drop what is not expected, apply in one transaction, go on.

At least once, effect once: the offset is compared and set in the transaction of the effects, so Kafka's own idea of
who owns what, and of what was read, can be wrong in any way without anything being lost or counted twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from budget_bus import metrics
from budget_bus.consumers.partitions import Owned, claim_partition
from budget_bus.errors import Fenced
from budget_bus.kafka import connection as kafka_connection
from budget_bus.settings import Settings
from budget_bus.store import fence
from budget_bus.store.fence import Advance, Claim
from budget_bus.store.pool import retryable

log = structlog.get_logger()

_IDLE_WATERMARK_S = 2.0
_SHOW_OFFSETS_S = 1.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.05, 2.0
_MAX_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one topic in offset order per partition, and the moves that applying them makes."""

    topic: str
    records: Sequence[ConsumerRecord]
    moves: list[Advance]

    def part(self, start: int, stop: int) -> Batch:
        """
        A stretch of the batch as a batch of its own, to be applied after the stretch before it.

        Its moves begin where the stretch before ended, partition by partition.
        """
        before: dict[int, int] = {record.partition: record.offset + 1 for record in self.records[:start]}
        after: dict[int, int] = {record.partition: record.offset + 1 for record in self.records[start:stop]}
        moves = []
        for move in self.moves:
            if (part := move.claim.part) in after:
                begin = before.get(part, move.claim.next_offset)
                end = after[part] if any(r.partition == part for r in self.records[stop:]) else move.to_offset
                moves.append(Advance(Claim(part, move.claim.epoch, begin), end, move.watermark_at))
        return Batch(self.topic, self.records[start:stop], moves)


# Applies a batch in one transaction that begins with fence.enter. With a reason, its one record is refused by the
# database itself and must be dead-lettered for that reason.
Apply = Callable[[Batch, str | None], Awaitable[None]]


class ConsumerLoop(ConsumerRebalanceListener):  # type: ignore[misc]
    """Consumes one topic as a member of a consumer group, until stopped."""

    def __init__(
        self,
        settings: Settings,
        pool: asyncpg.Pool,
        *,
        topic: str,
        group: str,
        apply: Apply,
        max_records: int = 500,
        fetch_max_wait_ms: int = 100,
        session_timeout_ms: int = 6_000,
    ) -> None:
        self._settings, self._pool, self._apply = settings, pool, apply
        self._topic, self._group = topic, settings.topic_prefix + group
        self._owner = settings.instance or self._group
        self._max_records = max_records
        self._options = {
            "group_id": self._group,
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "fetch_max_wait_ms": fetch_max_wait_ms,
            "max_partition_fetch_bytes": 4 * 1024 * 1024,
            "session_timeout_ms": session_timeout_ms,
            "heartbeat_interval_ms": session_timeout_ms // 3,
            "max_poll_interval_ms": 60_000,
        }
        self._owned: dict[TopicPartition, Owned] = {}
        self._halted: set[TopicPartition] = set()
        self._generation = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        self._shown = self._touched = 0.0
        self._faults = 0

    def stop(self) -> None:
        """Finish the batch under way, then leave the group."""
        self._stopping.set()

    async def run(self) -> None:
        """Consume until `stop`; a lost broker, database or partition is joined again with patience."""
        delay = _FIRST_RETRY_S
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                await self._run_once()
            except (KafkaError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, Fenced, TimeoutError) as error:
                log.warning("consumer starts again", topic=self._topic, reason=f"{type(error).__name__}: {error}")
            delay = _FIRST_RETRY_S if time.monotonic() - began > 30 else min(delay * 2, _LAST_RETRY_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    async def _run_once(self) -> None:
        consumer = AIOKafkaConsumer(**kafka_connection(self._settings), **self._options)
        self._consumer, self._owned = consumer, {}
        try:
            await consumer.start()
            consumer.subscribe([self._settings.topic_prefix + self._topic], listener=self)
            while not self._stopping.is_set():
                await self._turn(consumer)
        finally:
            self.ready.clear()
            self._owned = {}
            with suppress(KafkaError, OSError):
                await consumer.stop()

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Stop using the partitions at once; a batch under way may end, the fence judges it."""
        self._generation += 1
        self._owned = {}
        self.ready.clear()
        # Bounded: the group must not wait for a database that is away.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), 5)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Take each partition in the database. Records fetched before that are dropped in `_expected`."""
        generation, delay = self._generation, _FIRST_RETRY_S
        while generation == self._generation and not self._stopping.is_set():
            try:
                owned = {}
                for partition in assigned:
                    claim = await claim_partition(
                        self._pool, self._consumer, partition, topic=self._topic, owner=self._owner
                    )
                    if claim:
                        owned[partition] = Owned(claim)
                if generation == self._generation:
                    self._owned, self._halted = owned, set(assigned) - set(owned)
                    # What was fetched while we asked the database has been dropped; from here on it is expected.
                    for partition, mine in owned.items():
                        self._consumer.seek(partition, mine.claim.next_offset)
                    metrics.HALTED_PARTITIONS.labels(self._topic).set(len(self._halted))
                    self.ready.set()
                return
            except Exception as error:
                # aiokafka would swallow it and fetch from a wrong place; the gate stays shut instead.
                if not (retryable(error) or isinstance(error, KafkaError)):
                    raise
                log.warning("cannot take partitions yet", topic=self._topic, reason=str(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LAST_RETRY_S)

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        try:
            fetched = await consumer.getmany(timeout_ms=200, max_records=self._max_records)
        except NoOffsetForPartitionError:
            # The consumer looked for a committed offset before our seek; it has none, and needs none.
            await asyncio.sleep(_FIRST_RETRY_S)
            return
        except OffsetOutOfRangeError:
            raise Fenced("the log has changed under us") from None
        moves, records = [], []
        for partition, batch in fetched.items():
            owned = self._owned.get(partition)
            expected = self._expected(consumer, partition, owned, batch) if owned else []
            if owned and expected:
                to_offset = expected[-1].offset + 1
                moves.append(Advance(owned.claim, to_offset, owned.watermark(consumer, partition, to_offset)))
                records += expected
        if records:
            await self._apply_until_done(Batch(self._topic, records, moves))
        elif self._owned:
            await self._touch(consumer)
        await self._show(consumer)

    def _expected(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, owned: Owned, batch: list[ConsumerRecord]
    ) -> list[ConsumerRecord]:
        wanted = owned.claim.next_offset
        records = [record for record in batch if record.offset >= wanted]
        if records and records[0].offset > wanted and owned.sought != wanted:
            # Either fetched from a wrong place, or compaction and markers left a gap: asking once more tells.
            owned.sought = wanted
            consumer.seek(partition, wanted)
            return []
        return records

    async def _apply_until_done(self, batch: Batch) -> None:
        generation, delay = self._generation, _FIRST_RETRY_S
        self._idle.clear()
        try:
            while generation == self._generation:
                try:
                    await self._apply_splitting(batch)
                    self._moved(batch)
                    return
                except Exception as error:
                    if not retryable(error):
                        raise
                    metrics.RETRIES.labels(self._topic).inc()
                    if await self._is_applied(batch, error):
                        self._moved(batch)
                        return
                    log.warning("batch is tried again", topic=self._topic, reason=f"{type(error).__name__}: {error}")
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, _LAST_RETRY_S)
        finally:
            self._idle.set()

    async def _apply_splitting(self, batch: Batch) -> None:
        """
        Apply; a batch that fails for its content is halved down to the one record, which becomes a dead letter.

        A fault of ours looks the same, so after a number of them in a row the process stops rather than drain the
        topic into its dead letters.
        """
        try:
            with metrics.BATCH_SECONDS.labels(self._topic).time():
                await self._apply(batch, None)
            metrics.BATCH_RECORDS.labels(self._topic).observe(len(batch.records))
            self._faults = 0
        except Exception as error:
            if retryable(error) or self._faults >= _MAX_FAULTS:
                raise
            if len(batch.records) > 1:
                half = len(batch.records) // 2
                await self._apply_splitting(batch.part(0, half))
                await self._apply_splitting(batch.part(half, len(batch.records)))
                return
            self._faults += 1
            log.exception("a record cannot be applied", topic=self._topic, offset=batch.records[0].offset)
            await self._apply(batch, f"it cannot be applied: {type(error).__name__}: {error}")

    async def _is_applied(self, batch: Batch, error: Exception) -> bool:
        """After a commit without an answer: did it happen? A lost partition ends this membership instead."""
        try:
            async with self._pool.acquire() as connection:
                parts = [move.claim.part for move in batch.moves]
                now = await fence.positions(connection, batch.topic, parts)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            return False
        for move in batch.moves:
            if now[move.claim.part].epoch != move.claim.epoch:
                raise Fenced(f"{batch.topic}/{move.claim.part} has a new owner") from error
        if all(now[move.claim.part].next_offset == move.to_offset for move in batch.moves):
            return True
        if any(now[move.claim.part].next_offset != move.claim.next_offset for move in batch.moves):
            raise Fenced(f"{batch.topic}: the books are at another offset") from error
        return False

    def _moved(self, batch: Batch) -> None:
        for move in batch.moves:
            owned = self._owned.get(TopicPartition(self._settings.topic_prefix + batch.topic, move.claim.part))
            if owned and owned.claim.epoch == move.claim.epoch:
                owned.claim = Claim(move.claim.part, move.claim.epoch, move.to_offset)

    async def _touch(self, consumer: AIOKafkaConsumer) -> None:
        """Nothing came: what is read to its end moves its watermark with the clock."""
        if time.monotonic() - self._touched < _IDLE_WATERMARK_S:
            return
        self._touched = time.monotonic()
        marks = {p: o.watermark(consumer, p, o.claim.next_offset) for p, o in self._owned.items()}
        claims = [self._owned[partition].claim for partition in marks]
        async with self._pool.acquire() as connection:
            for claim, mark in zip(claims, marks.values(), strict=True):
                if mark.timestamp() > 0:
                    await fence.touch_watermark(connection, self._topic, [claim], mark)

    async def _show(self, consumer: AIOKafkaConsumer) -> None:
        """Once a second: lag as a metric, and our offsets in Kafka for its own tools; the books do not need them."""
        if time.monotonic() - self._shown < _SHOW_OFFSETS_S or not self._owned:
            return
        self._shown = time.monotonic()
        offsets: dict[TopicPartition, Any] = {}
        for partition, owned in self._owned.items():
            offsets[partition] = owned.claim.next_offset
            end = consumer.highwater(partition)
            lag = max(0, end - owned.claim.next_offset) if end is not None else 0
            metrics.LAG.labels(self._topic, str(partition.partition)).set(lag)
        with suppress(KafkaError):
            await consumer.commit(offsets)


def utc_of(record: ConsumerRecord) -> datetime:
    """A record's own time."""
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)
