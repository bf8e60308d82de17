"""`budget topics`: make the topics, and go on after records were lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from budget_bus.cli.find import find_service
from budget_bus.errors import Conflict, NotFound, Rejected

if TYPE_CHECKING:
    from budget_bus.settings import Settings

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

topics = typer.Typer(help="Make and check the topics.", no_args_is_help=True)


@topics.command("apply")
def apply() -> None:
    """
    Make the topics that are missing and say how the others differ from what is wanted. Changes no existing one.

    Example: BUDGET_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 budget topics apply
    """
    from budget_bus.producers.topics import apply_topics

    for line in asyncio.run(apply_topics(find_service(kafka=True))):
        print(line)


@topics.command("accept-loss")
def accept_loss(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic, e.g. usage.recorded.")],
    partition: Annotated[int, typer.Argument(metavar="PARTITION", help="The partition that is halted.", min=0)],
) -> None:
    """
    Let a halted partition go on although records were deleted before they were read.

    What was lost stays uncounted: record it again if its source still has it. Refuses when nothing was lost.

    Example: budget topics accept-loss usage.recorded 0
    """
    print(asyncio.run(_accept_loss(find_service(database=True, kafka=True), topic, partition)))


async def _accept_loss(settings: Settings, topic: str, partition: int) -> str:
    from budget_bus.events.topics import INBOUND
    from budget_bus.store import admin

    topic = topic.removeprefix(settings.topic_prefix)
    if topic not in INBOUND:
        raise typer.BadParameter(f"{topic!r} is none of {', '.join(INBOUND)}", param_hint="TOPIC")
    begin = await _log_start(settings, settings.topic_prefix + topic, partition)
    async with admin.open_connection(settings) as connection:
        expected = (await admin.positions(connection, topic)).get(partition)
        if expected is None:
            raise NotFound(f"{topic}/{partition} was never read, so nothing of it can be missing")
        if expected >= begin:
            raise Rejected(
                f"nothing is lost: {topic}/{partition} is read up to offset {expected} and the log begins at {begin}"
            )
        gap = {"lost_from": expected, "begin": begin}
        if not await admin.accept_loss(connection, topic, partition, **gap, actor="cli", at=datetime.now(UTC)):
            raise Conflict(f"{topic}/{partition} has moved meanwhile; look again")
    return f"{topic}/{partition}: offsets {expected} to {begin - 1} are given up; it goes on at {begin}"


async def _log_start(settings: Settings, topic: str, partition: int) -> int:
    from aiokafka.structs import TopicPartition

    from budget_bus.cli.broker import open_consumer, partitions

    if partition not in await partitions(settings, topic):
        raise NotFound(f"{topic} has no partition {partition}")
    place = TopicPartition(topic, partition)
    async with open_consumer(settings) as consumer:
        return int((await consumer.beginning_offsets([place]))[place])
