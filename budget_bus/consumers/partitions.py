"""
Which partitions are ours: the claim of each in the database, what is expected next, how far it is read in time; and
how a partition is read that has a record which aiokafka cannot decode.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CorruptRecordException, LeaderNotAvailableError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy

from budget_bus.store import fence
from budget_bus.store.fence import Claim

log = structlog.get_logger()

_FETCH_BYTES = 1024 * 1024  # a batch that is larger comes whole all the same (KIP-74)
_READ_UNCOMMITTED = 0
_BATCH_HEAD = struct.Struct(">qiib")  # base offset, length of what follows it, leader epoch, magic
_LENGTH_COUNTS_FROM = 12

# A fetch response's highwater is at most this much older than its arrival: the long poll's time and a margin.
_RESPONSE_AGE = timedelta(seconds=1)


@dataclass(slots=True)
class Owned:
    """
    A partition of ours.

    `sample` is a pair of an instant and the end of the log then: once everything before that end is applied, all
    that was appended before the instant is in the books, whatever clocks the producers had.
    """

    claim: Claim
    sample: tuple[datetime, int] | None = None
    sought: int | None = None

    def watermark(self, consumer: AIOKafkaConsumer, partition: TopicPartition, next_offset: int) -> datetime:
        """The watermark that reading up to *next_offset* justifies; the epoch of time if none."""
        passed = datetime.fromtimestamp(0, UTC)
        if self.sample and next_offset >= self.sample[1]:
            passed, self.sample = self.sample[0], None
        if self.sample is None:
            seen_ms, end = consumer.last_poll_timestamp(partition), consumer.highwater(partition)
            if seen_ms is not None and end is not None:
                self.sample = (datetime.fromtimestamp(seen_ms / 1000, UTC) - _RESPONSE_AGE, end)
                if next_offset >= end:
                    passed = max(passed, self.sample[0])
        return passed


async def claim_partition(
    pool: asyncpg.Pool, consumer: AIOKafkaConsumer, partition: TopicPartition, *, topic: str, owner: str
) -> tuple[Claim, int]:
    """
    Take *partition*; returns at which offset it goes on, as the books say, and where its log begins.

    A log that has become shorter (a broker that lost data, a topic made anew) is read again from its start: events
    that are in the books are recognised by their ids. A log that begins behind the offset to go on at has lost records
    which were never read; it must not be touched until an operator accepts the loss with `budget topics accept-loss`.
    """
    begin = (await consumer.beginning_offsets([partition]))[partition]
    end = (await consumer.end_offsets([partition]))[partition]
    async with pool.acquire() as connection:
        claim = await fence.take(connection, topic, partition.partition, owner=owner, start_offset=begin)
        if claim.next_offset > end:
            log.warning(
                "log is shorter than what was read; reading it again", topic=topic, partition=partition.partition
            )
            claim = await fence.rewind(connection, topic, claim, begin)
    if claim.next_offset < begin:
        log.error(
            "records were deleted before they were read; this partition is halted",
            topic=topic,
            partition=partition.partition,
            lost_from=claim.next_offset,
            lost_to=begin,
            fix=f"budget topics accept-loss {topic} {partition.partition}",
        )
    return claim, begin


async def forget_gone(pool: asyncpg.Pool, consumer: AIOKafkaConsumer, name: str, *, topic: str) -> None:
    """Partitions that *name*, as the broker calls the topic, does not have any more hold no watermark back."""
    there = consumer.partitions_for_topic(name)
    if there:
        async with pool.acquire() as connection:
            await fence.forget_gone(connection, topic, max(there) + 1)


def is_undecodable(error: BaseException) -> bool:
    """Whether aiokafka met a header name that is not UTF-8: its C parser raises that, its Python parser wraps it."""
    return isinstance(error, UnicodeDecodeError) or isinstance(error.__cause__, UnicodeDecodeError)


async def read_leniently(
    consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int, max_records: int
) -> list[ConsumerRecord]:
    """
    The next records of *partition* from *offset* on, past everything that aiokafka's own fetching cannot decode.

    Kafka's protocol wants header names in UTF-8, but neither the broker nor librdkafka checks it. As in the Java client
    such a name is no reason to refuse the record; here its wrong bytes are written as backslash escapes. Empty at the
    end of the log.
    """
    while True:
        data = await _fetch(consumer, partition, offset)
        found: list[ConsumerRecord] = []
        begin = offset
        for batch in _batches(data, partition):
            if not batch.is_control_batch:
                found += [record for record in _records(batch, partition) if record.offset >= begin]
            offset = batch.next_offset
            if len(found) >= max_records:
                break
        if found or offset == begin:
            return found[:max_records]


async def _fetch(consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> bytes:
    leader = consumer._client.cluster.leader_for_partition(partition)
    if leader in (None, -1):
        raise LeaderNotAvailableError(partition)
    places = [(partition.topic, [(partition.partition, offset, _FETCH_BYTES)])]
    response = await consumer._client.send(leader, FetchRequest(0, 1, _FETCH_BYTES, _READ_UNCOMMITTED, places))
    ((_, ((_, error_code, *_, data),)),) = response.topics
    if error_code:
        raise for_code(error_code)({partition: offset})
    return data or b""


def _batches(data: bytes, partition: TopicPartition) -> Iterator[_DefaultRecordBatchPy]:
    at = 0
    while at + _BATCH_HEAD.size <= len(data):
        _, length, _, magic = _BATCH_HEAD.unpack_from(data, at)
        end = at + _LENGTH_COUNTS_FROM + length
        if end > len(data):
            return
        batch = _DefaultRecordBatchPy(data[at:end])
        if magic != 2 or not batch.validate_crc():
            raise CorruptRecordException(f"an unreadable batch at {partition}")
        yield batch
        at = end


def _records(batch: _DefaultRecordBatchPy, partition: TopicPartition) -> Iterator[ConsumerRecord]:
    iter(batch)  # decompresses
    batch._buffer = _Lenient(batch._buffer)
    for record in batch:
        if any("\\x" in name for name, _ in record.headers):
            log.warning(
                "a record has a header whose name is not UTF-8; it is used all the same",
                topic=partition.topic,
                partition=partition.partition,
                offset=record.offset,
            )
        yield ConsumerRecord(
            partition.topic,
            partition.partition,
            record.offset,
            record.timestamp,
            record.timestamp_type,
            record.key,
            record.value,
            record.checksum,
            -1 if record.key is None else len(record.key),
            -1 if record.value is None else len(record.value),
            tuple(record.headers),
        )


class _Lenient(bytearray):
    """Bytes of which every slice decodes, for the one place where aiokafka's Python parser decodes anything."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _Lenient(found) if isinstance(index, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """As bytes.decode, with wrong bytes escaped."""
        return super().decode(encoding, "backslashreplace")
