"""The floor of a feed: every record of a topic to every WebSocket client, without a snapshot, a queue or a filter."""

from __future__ import annotations

import argparse
import asyncio

from aiokafka import AIOKafkaConsumer
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main(options: argparse.Namespace) -> None:
    clients: set[ServerConnection] = set()

    async def listen(client: ServerConnection) -> None:
        clients.add(client)
        try:
            await client.wait_closed()
        finally:
            clients.discard(client)

    consumer = AIOKafkaConsumer(options.topic, bootstrap_servers=options.bootstrap_servers)
    await consumer.start()
    async with serve(listen, "127.0.0.1", options.port, compression=None, backlog=2048):
        async for record in consumer:
            broadcast(clients, record.value.decode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap_servers")
    parser.add_argument("topic")
    parser.add_argument("port", type=int)
    asyncio.run(main(parser.parse_args()))
