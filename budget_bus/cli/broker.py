"""Looking into the log without being a member of any group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from budget_bus.errors import BudgetUnavailable, NotFound
from budget_bus.kafka import connection
from budget_bus.settings import Settings

_FETCH_BYTES = 8 * 1024 * 1024  # above the largest record


@asynccontextmanager
async def open_consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """
    A consumer that commits nothing.

    Raises:
        BudgetUnavailable: the broker does not answer, now or later.
    """
    consumer = AIOKafkaConsumer(
        **connection(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        await consumer.start()
        yield consumer
    except (KafkaError, OSError) as error:
        raise _away(settings, error) from None
    finally:
        await consumer.stop()


async def partitions(settings: Settings, topic: str) -> list[int]:
    """
    The partitions of *topic*, its name on the broker.

    Raises:
        NotFound: there is no such topic.
        BudgetUnavailable: the broker does not answer.
    """
    client = AIOKafkaAdminClient(**connection(settings))
    try:
        await client.start()
        described = await client.describe_topics([topic])
    except (KafkaError, OSError) as error:
        raise _away(settings, error) from None
    finally:
        await client.close()
    found = sorted(part["partition"] for entry in described for part in entry["partitions"])
    if not found:
        raise NotFound(f"the broker has no topic {topic}; `budget topics apply` makes it")
    return found


def _away(settings: Settings, error: Exception) -> BudgetUnavailable:
    return BudgetUnavailable(f"the broker at {settings.kafka_bootstrap_servers} does not answer: {error}")
