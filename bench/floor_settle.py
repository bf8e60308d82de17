"""The floor of settling: poll, validate each record, one INSERT per batch, commit in PostgreSQL and in Kafka."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer
from pydantic import BaseModel, TypeAdapter

TABLE = """
CREATE TABLE usage (
    event_id uuid PRIMARY KEY, occurred_at timestamptz NOT NULL, component text NOT NULL, provider text NOT NULL,
    model text NOT NULL, input_tokens bigint NOT NULL, output_tokens bigint NOT NULL,
    cache_read_input_tokens bigint NOT NULL, context_id text, user_name text, tags jsonb NOT NULL
)
"""
INSERT = """
INSERT INTO usage SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[],
    $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::jsonb[])
ON CONFLICT DO NOTHING
"""


class Usage(BaseModel):
    event_id: UUID
    occurred_at: datetime
    component: str
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    context_id: str | None = None
    user: str | None = None
    tags: dict[str, str]


def columns(events: Sequence[Usage]) -> list[list[object]]:
    rows = (
        (
            *(event.event_id, event.occurred_at, event.component, event.provider, event.model),
            *(event.input_tokens, event.output_tokens, event.cache_read_input_tokens),
            *(event.context_id, event.user, json.dumps(event.tags)),
        )
        for event in events
    )
    return [list(column) for column in zip(*rows, strict=True)]


async def settle(consumer: AIOKafkaConsumer, connection: asyncpg.Connection, expected: int) -> dict[str, float]:
    """Read *expected* records. The time runs from the end of the first batch, so that no start-up is in it."""
    read, first, began = 0, 0, 0.0
    adapter = TypeAdapter(Usage)
    while read < expected:
        fetched = await consumer.getmany(timeout_ms=200, max_records=2000)
        events = [adapter.validate_json(record.value) for records in fetched.values() for record in records]
        if not events:
            continue
        async with connection.transaction():
            # Our settler commits like this too: the log is the durable copy.
            await connection.execute("SET LOCAL synchronous_commit = off")
            await connection.execute(INSERT, *columns(events))
        await consumer.commit()
        read += len(events)
        if not first:
            first, began = read, time.perf_counter()
    return {"events": read - first, "seconds": time.perf_counter() - began}


async def main(options: argparse.Namespace) -> None:
    connection = await asyncpg.connect(options.database_url)
    await connection.execute(TABLE)
    consumer = AIOKafkaConsumer(
        options.topic,
        bootstrap_servers=options.bootstrap_servers,
        group_id=options.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    await consumer.start()
    try:
        print(json.dumps(await settle(consumer, connection, options.expected)))
    finally:
        await consumer.stop()
        await connection.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap_servers", "topic", "group", "database_url"):
        parser.add_argument(name)
    parser.add_argument("expected", type=int)
    asyncio.run(main(parser.parse_args()))
