"""A supervised idempotent producer: every send has a deadline, and a producer that is stuck is replaced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    UnknownProducerId,
)
from aiokafka.structs import RecordMetadata

from budget_bus.errors import BudgetUnavailable, Rejected
from budget_bus.producers.closing import close_producer

Headers = Sequence[tuple[str, bytes]]

MAX_BATCH_BYTES = 256 * 1024  # one batch per partition is in flight at a time, so its size bounds the throughput
MAX_RECORD_BYTES = 5 * 1024 * 1024
REQUEST_TIMEOUT_MS = 10_000

# After one of these the producer fails every later send of the partition too (aio-libs/aiokafka #1017).
_STUCK = (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    UnknownProducerId,
)

log = logging.getLogger(__name__)


class Sender:
    """
    Sends records with acks=all. A record may arrive twice (after a replacement, or when its deadline passed and the
    caller repeats it), so every one carries an id by which its consumer knows it.
    """

    def __init__(self, connection: Mapping[str, Any]) -> None:
        """*connection* is what `budget_bus.kafka.connection` returns."""
        self._connection = dict(connection)
        self._producer: AIOKafkaProducer | None = None
        self._unacknowledged: set[asyncio.Future[RecordMetadata]] = set()
        self._replacement: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """
        Connect.

        Raises:
            BudgetUnavailable: no bootstrap server answers.
        """
        self._producer = await self._connected()

    async def stop(self) -> None:
        """Send what is under way, for a few seconds at most, and disconnect."""
        producer, self._producer = self._producer, None
        if self._replacement is not None:
            await asyncio.wait({self._replacement})
        if producer is not None:
            await close_producer(producer)
        self._abandon()
        if self._background:
            await asyncio.wait(self._background)

    async def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        partition: int | None = None,
        timeout_s: float = 10.0,
    ) -> RecordMetadata:
        """
        Send one record and wait until all in-sync replicas have it.

        Raises:
            BudgetUnavailable: not acknowledged within *timeout_s*; the record may still arrive, once or later twice.
            Rejected: larger than 5 MiB, or the topic has no such partition. Nothing was sent.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._deliver(topic, key, value, headers, partition)
        except TimeoutError:
            raise BudgetUnavailable(self._why_late(topic, timeout_s)) from None
        except MessageSizeTooLargeError as error:
            raise Rejected(f"the record is too large: {error}") from None
        except (KafkaError, OSError) as error:
            raise BudgetUnavailable(f"the broker refused a record of {topic}: {error!r}") from None

    def send_nowait(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        partition: int | None = None,
        timeout_s: float = 10.0,
    ) -> asyncio.Future[RecordMetadata]:
        """As `send`, without waiting: the future ends as `send` would. Its error may be left unread."""
        task = asyncio.ensure_future(
            self.send(topic, key=key, value=value, headers=headers, partition=partition, timeout_s=timeout_s)
        )
        self._keep(task)
        return task

    async def partitions(self, topic: str, *, timeout_s: float = 10.0) -> int:
        """
        How many partitions *topic* has.

        Raises:
            BudgetUnavailable: the broker does not answer or has no such topic.
        """
        producer = self._current()
        try:
            async with asyncio.timeout(timeout_s):
                return len(await producer.partitions_for(topic))
        except TimeoutError:
            raise BudgetUnavailable(self._why_late(topic, timeout_s)) from None
        except (KafkaError, OSError) as error:
            raise BudgetUnavailable(f"the broker does not say what {topic} is: {error!r}") from None

    async def topics(self, *, timeout_s: float = 5.0) -> set[str]:
        """
        The names of the cluster's topics, asked for anew.

        Raises:
            BudgetUnavailable: the broker does not answer.
        """
        producer = self._current()
        try:
            async with asyncio.timeout(timeout_s):
                cluster = await producer.client.fetch_all_metadata()
                return set(cluster.topics())
        except (KafkaError, OSError, TimeoutError) as error:
            raise BudgetUnavailable(f"the broker does not answer: {error!r}") from None

    async def _deliver(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, partition: int | None
    ) -> RecordMetadata:
        while True:
            producer = self._current()
            try:
                if partition is not None and partition not in await producer.partitions_for(topic):
                    raise Rejected(f"topic {topic} has no partition {partition}")
                future = await producer.send(topic, value, key, partition, headers=list(headers))
                self._unacknowledged.add(future)
                future.add_done_callback(self._unacknowledged.discard)
                return await future
            except _STUCK as error:
                await self._replaced(producer, error)
            except KafkaError as error:
                # A bare KafkaError is what aiokafka gives to all records once its sending task has died.
                if type(error) is not KafkaError:
                    raise
                await self._replaced(producer, error)

    def _current(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise BudgetUnavailable("not connected to the broker: started or stopped?")
        return self._producer

    async def _replaced(self, stuck: AIOKafkaProducer, error: KafkaError) -> None:
        if self._producer is stuck and (self._replacement is None or self._replacement.done()):
            log.warning("the producer is stuck and is replaced: %r", error)
            self._replacement = asyncio.create_task(self._replace(stuck))
            self._keep(self._replacement)
        if self._replacement is not None:
            # Shielded, for it is shared by all senders, whose deadlines differ.
            await asyncio.shield(self._replacement)

    async def _replace(self, stuck: AIOKafkaProducer) -> None:
        fresh = await self._connected()
        if self._producer is not stuck:
            await close_producer(fresh)
            return
        self._producer = fresh
        self._abandon()
        self._keep(asyncio.create_task(close_producer(stuck, patience_s=0)))

    def _abandon(self) -> None:
        # Whoever waits for one of these sends it again, on a fresh producer if there is one.
        unacknowledged, self._unacknowledged = self._unacknowledged, set()
        for future in unacknowledged:
            if not future.done():
                future.set_exception(ProducerClosed())

    async def _connected(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._connection,
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            await producer.start()
        except BaseException as error:
            await close_producer(producer, patience_s=0)
            if not isinstance(error, (KafkaError, OSError)):
                raise
            servers = self._connection["bootstrap_servers"]
            raise BudgetUnavailable(f"the broker at {servers} does not answer: {error}") from None
        return producer

    def _why_late(self, topic: str, timeout_s: float) -> str:
        known = self._producer is not None and self._producer.client.cluster.partitions_for_topic(topic)
        cause = "the broker is away" if known else "the broker is away or has no such topic (`budget topics apply`)"
        return f"no acknowledgement for {topic} within {timeout_s:g} s: {cause}"

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(_read_error)


def _read_error(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("a send in the background failed: %s", error)
