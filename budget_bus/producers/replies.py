"""Answers to checks: one partition of check.response, read from its end, handed to whoever asked."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from budget_bus.errors import BudgetUnavailable
from budget_bus.producers.closing import close_consumer

CORRELATION_ID = "correlation_id"
REPLY_TOPIC = "reply_topic"
REPLY_PARTITION = "reply_partition"
ERROR = "error"

_PAUSE_S = 0.5

log = logging.getLogger(__name__)


class NoAnswer(BudgetUnavailable):
    """The broker has the question, but no answer came in time. The same `request_id` again gets the decision."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A record of check.response; a header given twice keeps its last value."""

    value: bytes
    headers: Mapping[str, bytes]


class ReplyListener:
    """
    Reads one partition without a consumer group, so that each asker gets its answers wherever it runs.

    The partition follows from *instance*. Sharing one is harmless: an unknown correlation id is ignored, and so are
    answers that come twice or too late.
    """

    def __init__(self, connection: Mapping[str, Any], *, topic: str, partitions: int, instance: str) -> None:
        self.topic = topic
        self.partition = zlib.crc32(instance.encode()) % partitions
        self._connection = dict(connection)
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._positioned = False

    @property
    def positioned(self) -> bool:
        """Whether an answer that comes now would be seen."""
        return self._positioned and self._task is not None and not self._task.done()

    async def start(self) -> None:
        """
        Connect and take the position at the partition's end; an answer sent after this returns is not missed.

        Raises:
            BudgetUnavailable: the broker does not answer.
        """
        consumer = AIOKafkaConsumer(
            **self._connection,
            group_id=None,
            # "none" makes a lost position an error here; "latest" would silently skip answers.
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
            request_timeout_ms=10_000,
        )
        try:
            await consumer.start()
            consumer.assign([TopicPartition(self.topic, self.partition)])
            await self._seek_to_end(consumer)
        except BaseException as error:
            await close_consumer(consumer)
            if not isinstance(error, (KafkaError, OSError)):
                raise
            raise BudgetUnavailable(f"the broker does not answer: {error}") from None
        self._consumer = consumer
        self._task = asyncio.create_task(self._run(consumer), name=f"replies:{self.topic}/{self.partition}")

    async def stop(self) -> None:
        """Fail whoever still waits and disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._consumer is not None:
            await close_consumer(self._consumer)
        self._fail_all("the listener for answers was stopped")

    def expect(self, correlation_id: str) -> asyncio.Future[Reply]:
        """Register for an answer. To be called before the question is sent, and `forget` when the wait is over."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id] = future
        return future

    def forget(self, correlation_id: str) -> None:
        """Ignore answers to *correlation_id* from now on."""
        self._waiting.pop(correlation_id, None)

    async def _seek_to_end(self, consumer: AIOKafkaConsumer) -> None:
        tp = TopicPartition(self.topic, self.partition)
        self._positioned = False
        # aiokafka resolves the end lazily; without waiting for the position an early answer would lie before it.
        if not await consumer.seek_to_end(tp):
            raise BudgetUnavailable(f"the broker does not say where {self.topic} ends")
        await consumer.position(tp)
        self._positioned = True

    async def _run(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                if not self._positioned:
                    await self._seek_to_end(consumer)
                # Never in wait_for: a cancelled getmany leaves the consumer's fetch state open.
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    for record in records:
                        self._deliver(record)
            except (OffsetOutOfRangeError, NoOffsetForPartitionError):
                log.warning("the position in %s/%s is gone; going on from its end", self.topic, self.partition)
                self._positioned = False
                self._fail_all("the position among the answers was lost")
            except (KafkaError, OSError, BudgetUnavailable) as error:
                log.warning("reading %s/%s: %r", self.topic, self.partition, error)
                await asyncio.sleep(_PAUSE_S)

    def _deliver(self, record: ConsumerRecord) -> None:
        headers = {name: value for name, value in record.headers if value is not None}
        future = self._waiting.pop(headers.get(CORRELATION_ID, b"").decode("utf-8", "replace"), None)
        if future is not None and not future.done():
            future.set_result(Reply(record.value or b"", headers))

    def _fail_all(self, why: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(NoAnswer(why))
