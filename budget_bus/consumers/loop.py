"""
The loop under every consumer: poll, drop what is not expected, apply in one transaction, go on.

At least once, effect once: the offset is compared and set in the transaction of the effects, so Kafka's own idea of
who owns what, and of what was read, can be wrong in any way without anything being lost or counted twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from budget_bus import metrics
from budget_bus.consumers.batch import Apply, Batch, is_applied
from budget_bus.consumers.partitions import Owned, claim_partition, forget_gone, is_undecodable, read_leniently
from budget_bus.errors import Fenced
from budget_bus.kafka import connection as kafka_connection
from budget_bus.producers.closing import close_consumer
from budget_bus.settings import Settings
from budget_bus.store import fence
from budget_bus.store.fence import Advance, Claim
from budget_bus.store.pool import retryable

log = structlog.get_logger()

_IDLE_WATERMARK_S = 2.0
_SHOW_OFFSETS_S = 1.0
_LOOK_AT_HALTED_S = 2.0
_FORGET_S = 30.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.05, 2.0
_MAX_FAULTS = 20
_LAST_BATCH_S = 5.0
_CLAIMS_NOTHING = datetime.fromtimestamp(0, UTC)


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
        self._halted: dict[TopicPartition, Claim] = {}
        self._failure: Exception | None = None
        self._generation = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        self._shown = self._touched = self._looked = self._forgot = 0.0
        self._faults = 0

    def stop(self) -> None:
        """Finish the batch under way, then leave the group."""
        self._stopping.set()

    async def run(self) -> None:
        """
        Consume until `stop`; a lost broker, database or partition is joined again with patience.

        Raises:
            Exception: any other error, which would come again here; the process must end with it and be started anew.
        """
        delay = _FIRST_RETRY_S
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                await self._run_once()
            except Exception as error:
                if not _passes(error):
                    raise
                log.warning("consumer starts again", topic=self._topic, reason=f"{type(error).__name__}: {error}")
            delay = _FIRST_RETRY_S if time.monotonic() - began > 30 else min(delay * 2, _LAST_RETRY_S)
            await self._pause(delay)

    async def _run_once(self) -> None:
        consumer = AIOKafkaConsumer(**kafka_connection(self._settings), **self._options)
        self._consumer, self._owned, self._halted, self._failure = consumer, {}, {}, None
        try:
            await consumer.start()
            consumer.subscribe([self._settings.topic_prefix + self._topic], listener=self)
            while not self._stopping.is_set():
                await self._within_stop(self._turn(consumer))
                if self._failure:
                    raise self._failure
        finally:
            self.ready.clear()
            self._generation += 1
            self._owned = {}
            await close_consumer(consumer)

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
                owned, halted = await self._claim(assigned)
                if generation == self._generation:
                    self._begin(owned, halted)
                return
            except Exception as error:
                # aiokafka would swallow it and fetch from a wrong place; the gate stays shut instead.
                if not _passes(error):
                    self._failure = error
                    return
                log.warning("cannot take partitions yet", topic=self._topic, reason=str(error))
                await self._pause(delay)
                delay = min(delay * 2, _LAST_RETRY_S)

    async def _claim(
        self, assigned: Sequence[TopicPartition]
    ) -> tuple[dict[TopicPartition, Owned], dict[TopicPartition, Claim]]:
        owned, halted = {}, {}
        for partition in assigned:
            claim, begin = await claim_partition(
                self._pool, self._consumer, partition, topic=self._topic, owner=self._owner
            )
            if claim.next_offset < begin:
                halted[partition] = claim
            else:
                owned[partition] = Owned(claim)
        return owned, halted

    def _begin(self, owned: dict[TopicPartition, Owned], halted: dict[TopicPartition, Claim]) -> None:
        self._owned, self._halted = owned, halted
        # What was fetched while we asked the database has been dropped; from here on it is expected.
        for partition, mine in owned.items():
            self._consumer.seek(partition, mine.claim.next_offset)
        # Neither fetched nor asked for its committed offset: either would fail again and again, to the others' cost.
        for partition, lost in halted.items():
            self._consumer.pause(partition)
            self._consumer.seek(partition, lost.next_offset)
        metrics.HALTED_PARTITIONS.labels(self._topic).set(len(halted))
        self.ready.set()

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        try:
            fetched = await consumer.getmany(timeout_ms=200, max_records=self._max_records)
        except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
            _end_fetch(consumer)
            if isinstance(error, OffsetOutOfRangeError) and any(place in self._owned for place in error.args[0]):
                raise Fenced("the log has changed under us") from None
            # The consumer looked for a committed offset before our seek; it needs none, and the log may not have it.
            await self._pause(_FIRST_RETRY_S)
            return
        except Exception as error:
            if not is_undecodable(error):
                raise
            _end_fetch(consumer)
            await self._turn_leniently(consumer)
            return
        await self._use(consumer, fetched)

    async def _turn_leniently(self, consumer: AIOKafkaConsumer) -> None:
        """
        A turn over a record that aiokafka cannot decode: it throws away what it had for us, of any partition.

        So every partition is read here from where the books are, a batch at least, and then again by aiokafka, which
        may bring us back: the record may lie further on.
        """
        generation, owned = self._generation, dict(self._owned)
        fetched = {}
        for partition, mine in owned.items():
            share = max(1, self._max_records // len(owned))
            fetched[partition] = await read_leniently(consumer, partition, mine.claim.next_offset, share)
        if generation != self._generation:
            return
        if not owned:
            await self._pause(_FIRST_RETRY_S)
        self._place(consumer)
        await self._use(consumer, fetched)
        if generation == self._generation:
            self._place(consumer)

    def _place(self, consumer: AIOKafkaConsumer) -> None:
        for partition, owned in self._owned.items():
            consumer.seek(partition, owned.claim.next_offset)

    async def _use(
        self, consumer: AIOKafkaConsumer, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]]
    ) -> None:
        moves, records = [], []
        for partition, batch in fetched.items():
            owned = self._owned.get(partition)
            expected = self._expected(consumer, partition, owned, batch) if owned else []
            if owned and expected:
                to_offset = expected[-1].offset + 1
                read_to = await _read_to(consumer, partition, to_offset)
                moves.append(Advance(owned.claim, to_offset, owned.watermark(consumer, partition, read_to)))
                records += expected
        if records:
            await self._apply_until_done(Batch(self._topic, records, moves))
        elif self._owned:
            await self._touch(consumer)
        await self._look_after_halted()
        await self._show(consumer)

    def _expected(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, owned: Owned, batch: Sequence[ConsumerRecord]
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
                    if self._stopping.is_set():
                        # Given up, whether it was written or not: the books know, and whoever is next asks them.
                        return
                    metrics.RETRIES.labels(self._topic).inc()
                    if await is_applied(self._pool, batch, error):
                        self._moved(batch)
                        return
                    log.warning("batch is tried again", topic=self._topic, reason=f"{type(error).__name__}: {error}")
                    await self._pause(delay)
                    delay = min(delay * 2, _LAST_RETRY_S)
        finally:
            self._idle.set()

    async def _within_stop(self, turn: Coroutine[Any, Any, None]) -> None:
        """Wait for *turn*; after `stop` for a few seconds at most, for the database may be away."""
        working, stopping = asyncio.create_task(turn), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await asyncio.wait({working}, timeout=_LAST_BATCH_S)
            if not working.done():
                raise TimeoutError("the database does not answer and we are to stop")
            working.result()
        finally:
            stopping.cancel()
            # Not waited for: ending a statement takes the database as well.
            working.cancel()
            working.add_done_callback(_read_error)

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
        marks = []
        for partition, mine in list(self._owned.items()):
            read_to = await _read_to(consumer, partition, mine.claim.next_offset)
            marks.append((mine.claim, mine.watermark(consumer, partition, read_to)))
        async with self._pool.acquire() as connection:
            for claim, mark in marks:
                if mark > _CLAIMS_NOTHING:
                    await fence.touch_watermark(connection, self._topic, [claim], mark)

    async def _look_after_halted(self) -> None:
        """Once an operator has accepted the loss, the books stand elsewhere and the partition is joined again."""
        if not self._halted or time.monotonic() - self._looked < _LOOK_AT_HALTED_S:
            return
        self._looked = time.monotonic()
        async with self._pool.acquire() as connection:
            now = await fence.positions(connection, self._topic, [claim.part for claim in self._halted.values()])
        for claim in self._halted.values():
            if now[claim.part] != claim:
                raise Fenced(f"{self._topic}/{claim.part} is not halted any more")

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _show(self, consumer: AIOKafkaConsumer) -> None:
        """Once a second: lag as a metric, and our offsets in Kafka for its own tools; the books do not need them."""
        if time.monotonic() - self._shown < _SHOW_OFFSETS_S or not self._owned:
            return
        self._shown = time.monotonic()
        offsets: dict[TopicPartition, Any] = {}
        for partition, owned in list(self._owned.items()):
            offsets[partition] = read_to = await _read_to(consumer, partition, owned.claim.next_offset)
            end = consumer.highwater(partition)
            lag = max(0, end - read_to) if end is not None else 0
            metrics.LAG.labels(self._topic, str(partition.partition)).set(lag)
        with suppress(KafkaError):
            await consumer.commit(offsets)
        if time.monotonic() - self._forgot >= _FORGET_S:
            self._forgot = time.monotonic()
            await forget_gone(self._pool, consumer, next(iter(offsets)).topic, topic=self._topic)


async def _read_to(consumer: AIOKafkaConsumer, partition: TopicPartition, next_offset: int) -> int:
    """
    How far the partition is read, when the books stand, or are to stand, at *next_offset*.

    The consumer's position passes the markers of transactions and what compaction took, which are no records of ours.
    """
    return max(next_offset, int(await consumer.position(partition)))


def _end_fetch(consumer: AIOKafkaConsumer) -> None:
    # A getmany that raises counts as under way for ever, and then max_poll_interval_ms never fires again.
    state = consumer._subscription
    state._fetch_count, state._last_fetch_ended = 0, time.monotonic()


def _passes(error: Exception) -> bool:
    """Whether joining again is of use."""
    return retryable(error) or isinstance(error, KafkaError)


def _read_error(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.debug("a batch that was given up ended", reason=f"{type(error).__name__}: {error}")
