"""How far the consumers are behind: ends of the log from Kafka, what is applied from the books."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from budget_bus.errors import BudgetUnavailable
from budget_bus.kafka import connection
from budget_bus.producers.closing import close_consumer
from budget_bus.settings import Settings


class LogEnds:
    """
    Asks the broker where partitions begin and end, on a connection of its own: on the connection of the answers it
    would wait behind their long poll, and they behind it.
    """

    def __init__(self, settings: Settings) -> None:
        self._connection: dict[str, Any] = connection(settings)
        self._consumer: AIOKafkaConsumer | None = None
        self._one_at_a_time = asyncio.Lock()

    async def of(self, topic: str, partitions: int, *, timeout_s: float = 3.0) -> dict[int, tuple[int, int]]:
        """
        Partition -> (offset of the oldest record, offset that the next record gets).

        Raises:
            BudgetUnavailable: the broker does not answer in time.
        """
        places = [TopicPartition(topic, part) for part in range(partitions)]
        try:
            async with asyncio.timeout(timeout_s), self._one_at_a_time:
                consumer = await self._assigned(places)
                begins = await consumer.beginning_offsets(places)
                ends = await consumer.end_offsets(places)
        except (KafkaError, OSError, TimeoutError) as error:
            raise BudgetUnavailable(f"the broker does not say where {topic} ends: {error!r}") from None
        return {place.partition: (begins[place], ends[place]) for place in places}

    async def close(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await close_consumer(self._consumer)

    async def _assigned(self, places: list[TopicPartition]) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **self._connection, group_id=None, enable_auto_commit=False, request_timeout_ms=5000
            )
            try:
                await consumer.start()
            except BaseException:
                await close_consumer(consumer)
                raise
            self._consumer = consumer
        # Assigned, so that the leaders of these partitions are known; paused, so that nothing is fetched.
        self._consumer.assign(places)
        self._consumer.pause(*places)
        return self._consumer
