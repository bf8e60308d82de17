"""Reading dead-letter topics without a consumer group, and publishing their records again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.structs import TopicPartition

from budget_bus.cli.broker import open_consumer, partitions
from budget_bus.errors import NotFound, Rejected
from budget_bus.events.topics import INBOUND, dead_letter_topic
from budget_bus.producers.sender import Sender
from budget_bus.settings import Settings

TOPICS = tuple(dead_letter_topic(topic) for topic in INBOUND)
_REPLAY_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Letter:
    """One record of a dead-letter topic; *topic* is without the installation's prefix."""

    topic: str
    record: ConsumerRecord

    @property
    def place(self) -> str:
        return f"{self.record.partition}:{self.record.offset}"

    @property
    def told(self) -> dict[str, str]:
        """What was written about the record when it was buried."""
        return {name: _text(value) for name, value in self.record.headers if name.startswith("dlq_")}

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """The headers that the record came with."""
        return [(name, value or b"") for name, value in self.record.headers if not name.startswith("dlq_")]

    def row(self) -> dict[str, object]:
        """What a list shows of it."""
        told = self.told
        return {
            "topic": self.topic,
            "partition": self.record.partition,
            "offset": self.record.offset,
            "place": self.place,
            "at": told.get("dlq_at") or datetime.fromtimestamp(self.record.timestamp / 1000, UTC).isoformat(),
            "reason": told.get("dlq_reason"),
            "detail": told.get("dlq_detail"),
            "source_topic": told.get("dlq_topic"),
            "source_partition": told.get("dlq_partition"),
            "source_offset": told.get("dlq_offset"),
            "source": "/".join(told.get(f"dlq_{part}", "?") for part in ("topic", "partition", "offset")),
            "key": None if self.record.key is None else _text(self.record.key),
        }


class Reader:
    """Reads stretches of dead-letter topics; use `open_reader`."""

    def __init__(self, settings: Settings, consumer: AIOKafkaConsumer) -> None:
        self._settings, self._consumer = settings, consumer
        self._prefix = settings.topic_prefix

    async def read(self, topic: str, *, newest: int | None = None) -> AsyncIterator[Letter]:
        """
        The letters of *topic* up to its end at this moment, per partition oldest first; with *newest* only the last
        so many of each partition.
        """
        places = [TopicPartition(self._prefix + topic, part) for part in await self._partitions(topic)]
        begins = await self._consumer.beginning_offsets(places)
        ends = await self._consumer.end_offsets(places)
        for place in places:
            begin = begins[place] if newest is None else max(begins[place], ends[place] - newest)
            async for record in self._stretch(place, begin, ends[place]):
                yield Letter(topic, record)

    async def one(self, topic: str, partition: int, offset: int) -> Letter:
        """
        The letter at *offset*.

        Raises:
            NotFound: there is none; the text says what there is.
        """
        parts = await self._partitions(topic)
        if partition not in parts:
            raise NotFound(f"{topic} has no partition {partition}; it has {', '.join(map(str, parts))}")
        place = TopicPartition(self._prefix + topic, partition)
        begin = (await self._consumer.beginning_offsets([place]))[place]
        end = (await self._consumer.end_offsets([place]))[place]
        if begin <= offset < end:
            async for record in self._stretch(place, offset, offset + 1):
                return Letter(topic, record)
        there = f"offsets {begin} to {end - 1}" if begin < end else "nothing"
        raise NotFound(f"no record at {partition}:{offset} of {topic}; there is {there}")

    async def _partitions(self, topic: str) -> list[int]:
        return await partitions(self._settings, self._prefix + topic)

    async def _stretch(self, place: TopicPartition, begin: int, end: int) -> AsyncIterator[ConsumerRecord]:
        if begin >= end:
            return
        self._consumer.assign([place])
        self._consumer.seek(place, begin)
        # By the position and not by the last record's offset: the end may be a marker that no one is given.
        while await self._consumer.position(place) < end:
            for record in (await self._consumer.getmany(timeout_ms=500)).get(place, []):
                if record.offset < end:
                    yield record


@asynccontextmanager
async def open_reader(settings: Settings) -> AsyncIterator[Reader]:
    """
    A reader on the configured broker.

    Raises:
        BudgetUnavailable: the broker does not answer.
    """
    async with open_consumer(settings) as consumer:
        yield Reader(settings, consumer)


def known_topic(name: str, prefix: str) -> str:
    """
    The dead-letter topic that *name* stands for, without the prefix.

    Raises:
        NotFound: it is none; the text names those there are.
    """
    name = name.removeprefix(prefix)
    if name in TOPICS:
        return name
    hint = f"; its dead letters are in {dead_letter_topic(name)}" if name in INBOUND else ""
    raise NotFound(f"{name} is no dead-letter topic{hint}: there are {', '.join(TOPICS)}")


async def replay(sender: Sender, letter: Letter, prefix: str) -> str:
    """
    Publish *letter* again where it came from: value, key and headers as they were. Returns that topic.

    Raises:
        Rejected: it does not say where it came from; nothing was sent.
        BudgetUnavailable: not acknowledged; it may have arrived.
    """
    source = letter.told.get("dlq_topic", "")
    if source not in INBOUND:
        raise Rejected(
            f"{letter.topic} {letter.place}: its header dlq_topic is {source!r}, none of {', '.join(INBOUND)}"
        )
    record = letter.record
    await sender.send(
        prefix + source, key=record.key, value=record.value, headers=letter.headers, timeout_s=_REPLAY_TIMEOUT_S
    )
    return source


def _text(raw: bytes | None) -> str:
    return "" if raw is None else raw.decode(errors="backslashreplace")
