"""budget.alerts as a feed: no consumer group, so every subscriber hears every alert."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from budget_bus.errors import BudgetUnavailable, Rejected
from budget_bus.events.decode import decode
from budget_bus.events.facts import BudgetAlert
from budget_bus.producers.closing import close_consumer

log = logging.getLogger(__name__)


async def alert_feed(
    connection: Mapping[str, Any], topic: str, partitions: int, *, from_beginning: bool
) -> AsyncGenerator[BudgetAlert]:
    """
    Yield the alerts of *topic*, from its end or its beginning, until closed; a record that is no alert is skipped.

    Raises:
        BudgetUnavailable: the broker does not answer at the start; later the feed waits for it.
    """
    places = [TopicPartition(topic, part) for part in range(partitions)]
    consumer = AIOKafkaConsumer(**connection, group_id=None, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        await consumer.start()
        consumer.assign(places)
        if not from_beginning and not await consumer.seek_to_end(*places):
            raise BudgetUnavailable(f"the broker does not say where {topic} ends")
        while True:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    try:
                        alert = decode(BudgetAlert, record.value)
                    except Rejected as error:
                        log.warning("skipping a record of %s: %s", topic, error)
                    else:
                        yield alert
    except (KafkaError, OSError) as error:
        raise BudgetUnavailable(f"the broker does not answer: {error}") from None
    finally:
        await close_consumer(consumer)
