"""usage.recorded as far as it is in the books: each event once, with what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition
from pydantic import BaseModel

from budget_bus.consumers.incoming import derived_id
from budget_bus.consumers.partitions import read_leniently
from budget_bus.errors import BudgetUnavailable, Rejected
from budget_bus.events.decode import decode
from budget_bus.events.fields import WireModel
from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.http.parts import Parts
from budget_bus.kafka import connection
from budget_bus.money import format_nanos
from budget_bus.producers.closing import close_consumer
from budget_bus.store import reads

_MAX_RECORDS = 500  # of one partition at once

log = structlog.get_logger()


class Money(BaseModel):
    """An amount of money."""

    amount: str
    currency: str


class UsageBooked(BaseModel):
    """An event under its stored names, and what it cost when it came into the books; costs are null while unpriced."""

    event_id: UUID
    occurred_at: datetime
    recorded_at: datetime
    component: str
    provider: str
    model: str
    tier: str
    service_tier: str
    task_type: str | None
    context_id: str | None
    user: str | None
    operation_id: str | None
    tags: dict[str, str]
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    cache_creation_1h_input_tokens: int
    reasoning_output_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    input_image_tokens: int
    output_image_tokens: int
    token_source: str
    cost: str | None
    input_cost: str | None
    output_cost: str | None
    currency: str
    price_status: str
    reported_cost: Money | None
    request_id: UUID | None
    late: bool
    unreserved: bool


class BookedUsage:
    """
    Follows the offsets in the books rather than the end of the topic: they move in the transaction that writes the
    ledger, so every event that lies before them has its row, with the cost that it was charged.

    The records are read for their ids alone. A row that names another record is a duplicate's: it was told before.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._topic = parts.bus.topic(USAGE_RECORDED)
        self._told: dict[int, int] = {}  # partition -> the first offset that is not told yet
        self._consumer: AIOKafkaConsumer | None = None

    async def open(self) -> None:
        """Begin with what comes into the books from now on; raises errors of the database."""
        self._told = {part: seen.next_offset for part, seen in (await self._progress()).items()}

    async def read(self) -> list[UsageBooked]:
        """
        What has come into the books since, at most 500 events of each partition; after an error they are read again.

        Raises:
            BudgetUnavailable and errors of the database.
        """
        parts = {part: seen.next_offset for part, seen in (await self._progress()).items()}
        behind = {part: upto for part, upto in parts.items() if self._told.get(part, 0) != upto}
        if not behind:
            return []
        told = dict(self._told)
        new: list[tuple[UUID, ConsumerRecord]] = []  # one id may be there more than once
        try:
            for part, upto in behind.items():
                records = await self._records(part, told.get(part, 0), upto)
                told[part] = records[-1].offset + 1 if records else upto
                new += [(event_id, record) for record in records if (event_id := _event_id(record)) is not None]
        except (KafkaError, OSError) as error:
            await self.close()
            raise BudgetUnavailable(f"the broker does not answer: {error!r}") from None
        rows = await reads.booked(self._parts.pool, [event_id for event_id, _ in new])
        self._told = told
        return [_booked(row) for event_id, record in new if (row := _row_of(record, rows.get(event_id)))]

    async def close(self) -> None:
        """Disconnect; `read` connects again."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await close_consumer(consumer)

    async def _progress(self) -> Mapping[int, reads.Progress]:
        return await reads.progress(self._parts.pool, USAGE_RECORDED)

    async def _records(self, part: int, start: int, stop: int) -> Sequence[ConsumerRecord]:
        """The first records in `[start, stop)`; none if the log does not have them any more."""
        if self._consumer is None:
            self._consumer = await self._connected()
        try:
            found = await read_leniently(self._consumer, TopicPartition(self._topic, part), start, _MAX_RECORDS)
        except OffsetOutOfRangeError:
            log.warning("usage was deleted before a feed told it", part=part, lost_from=start, lost_to=stop)
            return []
        return [record for record in found if record.offset < stop]

    async def _connected(self) -> AIOKafkaConsumer:
        """A consumer that knows the leaders and fetches nothing by itself."""
        consumer = AIOKafkaConsumer(
            **connection(self._parts.settings), group_id=None, enable_auto_commit=False, request_timeout_ms=5000
        )
        try:
            await consumer.start()
            places = [
                TopicPartition(self._topic, part)
                for part in range(await self._parts.bus.sender.partitions(self._topic))
            ]
            consumer.assign(places)
            consumer.pause(*places)
            await consumer.beginning_offsets(places)  # waits for the leaders
        except BaseException:
            await close_consumer(consumer)
            raise
        return consumer


class _Identified(WireModel):
    event_id: UUID | None = None


def _event_id(record: ConsumerRecord) -> UUID | None:
    """As the settler names the event; None of what it cannot read either."""
    try:
        return decode(_Identified, record.value).event_id or derived_id(record, USAGE_RECORDED)
    except Rejected:
        return None


def _row_of(record: ConsumerRecord, row: dict[str, Any] | None) -> dict[str, Any] | None:
    """*row* if it was written for *record*."""
    return row if row and (row["part"], row["record_offset"]) == (record.partition, record.offset) else None


def _booked(row: dict[str, Any]) -> UsageBooked:
    reported = row["reported_cost_nanos"]
    return UsageBooked.model_validate(
        {
            **row,
            "total_tokens": row["input_tokens"] + row["output_tokens"],
            "cost": _money(row["cost_nanos"]),
            "input_cost": _money(row["input_cost_nanos"]),
            "output_cost": _money(row["output_cost_nanos"]),
            "reported_cost": None
            if reported is None
            else Money(amount=format_nanos(reported), currency=row["reported_currency"]),
        }
    )


def _money(nanos: int | None) -> str | None:
    return None if nanos is None else format_nanos(nanos)
