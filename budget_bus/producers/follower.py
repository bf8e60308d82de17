"""Follows one of our topics without a consumer group, so that every follower hears everything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from pydantic import BaseModel

from budget_bus.errors import BudgetUnavailable, Rejected
from budget_bus.events.decode import decode
from budget_bus.producers.closing import close_consumer

M = TypeVar("M", bound=BaseModel)

_PAUSE_S = 0.5
_MAX_RECORDS = 500

log = logging.getLogger(__name__)


class Follower:
    """
    Reads all *partitions* of *topic* in order. An outage of the broker loses nothing: it goes on where it was, or with
    the oldest record that is still kept.
    """

    def __init__(self, connection: Mapping[str, Any], topic: str, partitions: int) -> None:
        self._topic = topic
        self._places = [TopicPartition(topic, part) for part in range(partitions)]
        self._ends: dict[TopicPartition, int] = {}
        self._consumer = AIOKafkaConsumer(
            **connection,
            group_id=None,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_poll_records=_MAX_RECORDS,
            request_timeout_ms=10_000,
        )

    async def start(self, *, back: int | None = 0) -> None:
        """
        Connect and take the position, *back* records before the end of each partition (None: at its oldest record).
        What is published after this has returned is not missed.

        Raises:
            BudgetUnavailable: the broker does not answer; nothing is left open.
        """
        consumer = self._consumer
        try:
            await consumer.start()
            consumer.assign(self._places)
            begins = await consumer.beginning_offsets(self._places)
            self._ends = await consumer.end_offsets(self._places)
            for place in self._places:
                begin = begins[place]
                # Sought by number: aiokafka resolves "the end" lazily, and what comes before that would be missed.
                consumer.seek(place, begin if back is None else max(begin, self._ends[place] - back))
        except BaseException as error:
            await close_consumer(consumer)
            if not isinstance(error, (KafkaError, OSError)):
                raise
            raise BudgetUnavailable(f"the broker does not answer: {error}") from None

    async def read(self) -> list[ConsumerRecord]:
        """The next records, at most 500; empty if none come within a second or the broker is away."""
        try:
            # Never in wait_for: a cancelled getmany leaves the consumer's fetch state open.
            fetched = await self._consumer.getmany(timeout_ms=1000)
        except (KafkaError, OSError) as error:
            log.warning("reading %s: %r", self._topic, error)
            await asyncio.sleep(_PAUSE_S)
            return []
        return [record for records in fetched.values() for record in records]

    async def has_caught_up(self) -> bool:
        """Whether everything was read that lay in the topic at the start."""
        return all([await self._consumer.position(place) >= end for place, end in self._ends.items()])

    async def stop(self) -> None:
        """Disconnect."""
        await close_consumer(self._consumer)


def facts(model: type[M], records: Iterable[ConsumerRecord]) -> list[M]:
    """What *records* say; one that is no *model* is skipped."""
    found = []
    for record in records:
        try:
            found.append(decode(model, record.value))
        except Rejected as error:
            log.warning("skipping a record of %s: %s", record.topic, error)
    return found
