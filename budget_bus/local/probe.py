"""Whether a Kafka broker answers."""

from __future__ import annotations

import asyncio
import logging

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

_PAUSE_S = 0.1


async def broker_answers(bootstrap_servers: str) -> None:
    """Return once the broker describes its cluster with a controller in it; retries for ever."""
    chatter = logging.getLogger("aiokafka")
    level = chatter.level
    chatter.setLevel(logging.CRITICAL)  # A broker that is not there yet is what we wait for, not an error.
    try:
        while True:
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=5000)
            try:
                await admin.start()
                cluster = await admin.describe_cluster()
                if cluster["brokers"] and cluster["controller_id"] != -1:
                    return
            except (KafkaError, OSError, TimeoutError):
                pass
            finally:
                await admin.close()
            await asyncio.sleep(_PAUSE_S)
    finally:
        chatter.setLevel(level)
