"""Which partitions are ours: the claim of each in the database, what is expected next, how far it is read in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from budget_bus.store import fence
from budget_bus.store.fence import Claim

log = structlog.get_logger()

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
) -> Claim | None:
    """
    Take *partition*; the books say at which offset it goes on.

    A log that has become shorter (a broker that lost data, a topic made anew) is read again from its start: events
    that are in the books are recognised by their ids. A log that has lost records which were never read is not
    touched: None, until an operator accepts the loss with `budget topics accept-loss`.
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
        return None
    return claim
