"""The floor of a check: poll, one PostgreSQL commit per batch, the question goes back to the asker's partition."""

from __future__ import annotations

import argparse
import asyncio

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

# The smallest transaction whose commit has to reach the disk.
COMMIT = "SELECT pg_logical_emit_message(true, 'bench', '')"


async def main(options: argparse.Namespace) -> None:
    connection = await asyncpg.connect(options.database_url)
    consumer = AIOKafkaConsumer(
        options.topic,
        bootstrap_servers=options.bootstrap_servers,
        group_id=options.group,
        auto_offset_reset="latest",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=options.bootstrap_servers, linger_ms=0, max_batch_size=256 * 1024, enable_idempotence=True
    )
    await consumer.start()
    await producer.start()
    while True:
        fetched = await consumer.getmany(timeout_ms=200, max_records=500)
        records = [record for batch in fetched.values() for record in batch]
        if not records:
            continue
        await connection.execute(COMMIT)
        for record in records:
            correlation_id, partition = record.headers
            await producer.send(
                options.reply_topic, record.value, partition=int(partition[1]), headers=[correlation_id]
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap_servers", "topic", "group", "reply_topic", "database_url"):
        parser.add_argument(name)
    asyncio.run(main(parser.parse_args()))
