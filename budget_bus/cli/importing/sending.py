"""The second pass: events leave in chunks, several chunks at once, and each is tried again while the broker is away."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar
from uuid import UUID

from budget_bus.cli.importing.meter import Meter
from budget_bus.errors import BudgetUnavailable
from budget_bus.events.usage import UsageRecorded
from budget_bus.producers.bus import BudgetBus

_CHUNK = 1000
_IN_FLIGHT = 4
_ATTEMPTS = 5
_TIMEOUT_S = 20.0
_PAUSE_S = 1.0

T = TypeVar("T")


@dataclass(slots=True)
class Sent:
    """
    What Kafka has acknowledged: the ids and digests of the events, 16 bytes each, one after the other, and the first
    and last offset per partition. Bytes, because an import may have millions of rows.
    """

    event_ids: bytearray = field(default_factory=bytearray)
    digests: bytearray = field(default_factory=bytearray)
    first: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)

    def add(self, event: UsageRecorded, part: int, offset: int) -> None:
        if event.event_id is not None:
            self.event_ids += event.event_id.bytes
            self.digests += event.digest()
        self.first[part] = min(offset, self.first.get(part, offset))
        self.last[part] = max(offset, self.last.get(part, offset))

    def spans(self, part: int, offset: int) -> bool:
        """Whether a record lies among those that were sent."""
        return part in self.first and self.first[part] <= offset <= self.last[part]

    def chunks(self, size: int) -> Iterator[dict[UUID, bytes]]:
        """id -> digest, so many at a time."""
        for start in range(0, len(self.event_ids), 16 * size):
            span = range(start, min(start + 16 * size, len(self.event_ids)), 16)
            yield {UUID(bytes=bytes(self.event_ids[i : i + 16])): bytes(self.digests[i : i + 16]) for i in span}


async def send(bus: BudgetBus, events: Iterator[UsageRecorded], sent: Sent, meter: Meter) -> None:
    """
    Send all *events* and note them in *sent* as Kafka acknowledges them; their order does not matter.

    Raises:
        BudgetUnavailable: a chunk was not acknowledged in several attempts. Some of its rows may have arrived; their
            ids make sending them again harmless.
    """
    flying: set[asyncio.Task[None]] = set()
    try:
        for chunk in _chunks(events, _CHUNK):
            while len(flying) >= _IN_FLIGHT:
                flying = await _landed(flying)
            flying.add(asyncio.create_task(_send_chunk(bus, chunk, sent, meter)))
            # Let the producer have its turn before the next thousand rows are read.
            await asyncio.sleep(0)
        while flying:
            flying = await _landed(flying)
    finally:
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)


async def _landed(flying: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    done, still = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return still


async def _send_chunk(bus: BudgetBus, chunk: list[UsageRecorded], sent: Sent, meter: Meter) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            places = await bus.send_usage(chunk, timeout_s=_TIMEOUT_S)
            break
        except BudgetUnavailable as error:
            if attempt == _ATTEMPTS:
                raise
            print(f"{error}; trying again ({attempt} of {_ATTEMPTS - 1})", file=sys.stderr, flush=True)
            await asyncio.sleep(_PAUSE_S)
    for event, place in zip(chunk, places, strict=True):
        sent.add(event, place.partition, place.offset)
    meter.advance(len(chunk))


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk
