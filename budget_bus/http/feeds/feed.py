"""One reader for all clients of a feed in this process: it runs while there are any."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, Protocol, TypeVar

import structlog
from pydantic import BaseModel, SerializeAsAny

from budget_bus import metrics
from budget_bus.errors import BudgetUnavailable
from budget_bus.http.feeds.outgoing import Ending, Outgoing
from budget_bus.policy.budget import Budget

BACKLOG = 2000  # messages that may wait for one client
FAILED = Ending(1011, "the feed has failed; connect again")
_REFUSE_S = 1.0

log = structlog.get_logger()


class Message(BaseModel):
    """What a client receives. `at` is when the fact came about, for a `snapshot` when it was taken."""

    type: Literal["snapshot", "usage", "balance", "limit", "alert"]
    at: datetime
    payload: SerializeAsAny[BaseModel]


@dataclass(frozen=True, slots=True)
class Told:
    """A message for whoever wants it: of *component*, or about *budget*. The *key* is that of `Outgoing`."""

    text: str
    key: Hashable | None = None
    component: str | None = None
    budget: Budget | None = None


Publish = Callable[[Told], None]
Wants = Callable[[Told], bool]


class Reader(Protocol):
    """Where a feed's messages come from."""

    async def open(self) -> None:
        """
        Take the position: what comes about after this has returned will be told.

        Raises:
            BudgetUnavailable and errors of the database: it cannot; nothing is left open.
        """

    async def run(self, publish: Publish) -> None:
        """Publish without end; an outage is waited out."""

    async def close(self) -> None:
        """Give back what `open` took."""


R = TypeVar("R", bound=Reader)


class Feed(Generic[R]):
    """Hands every message of a reader to each client that wants it. *name* is the one in the metrics."""

    def __init__(self, name: str, new_reader: Callable[[], R]) -> None:
        self.name = name
        self._new_reader = new_reader
        self._listeners: dict[Outgoing, Wants] = {}
        self._reader: R | None = None
        self._reading: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._failed_at, self._failure = float("-inf"), ""

    @asynccontextmanager
    async def join(self, wants: Wants) -> AsyncIterator[tuple[R, Outgoing]]:
        """
        Be told what *wants* admits from here on; nothing runs between the joining and the body's first step.

        Raises:
            BudgetUnavailable and errors of the database: the feed cannot be read now.
        """
        async with self._changing:
            reader = await self._started()
            outgoing = Outgoing(BACKLOG)
            self._listeners[outgoing] = wants
        clients = metrics.WS_CLIENTS.labels(self.name)
        clients.inc()
        try:
            yield reader, outgoing
        finally:
            clients.dec()
            del self._listeners[outgoing]
            async with self._changing:
                if not self._listeners:
                    await self._stop()

    def publish(self, told: Told) -> None:
        """Put a message into the queue of each client that wants it; waits for none of them."""
        for outgoing, wants in self._listeners.items():
            if wants(told):
                outgoing.put(told.text, told.key)

    async def _started(self) -> R:
        if self._reader is not None and self._reading is not None and not self._reading.done():
            return self._reader
        if time.monotonic() - self._failed_at < _REFUSE_S:
            # Those who waited here meanwhile: one after the other they would wait for as many failures.
            raise BudgetUnavailable(self._failure)
        await self._stop()
        reader = self._new_reader()
        try:
            await reader.open()
        except Exception as error:
            self._failed_at, self._failure = time.monotonic(), f"the feed cannot be read: {error}"
            raise
        self._reader = reader
        self._reading = asyncio.create_task(reader.run(self.publish), name=f"feed:{self.name}")
        self._reading.add_done_callback(self._ended)
        return reader

    async def _stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        if self._reader is not None:
            await self._reader.close()
        self._reader = self._reading = None

    def _ended(self, reading: asyncio.Task[None]) -> None:
        if reading.cancelled():
            return
        log.error("a feed has failed", feed=self.name, exc_info=reading.exception())
        for outgoing in self._listeners:
            outgoing.end(FAILED)
