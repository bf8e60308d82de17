"""What waits to be sent to one client of a feed: bounded, and filled without waiting for anybody."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import NamedTuple


class Ending(NamedTuple):
    """Why the server ends a connection: a close code (RFC 6455, section 7.4, and IANA's registry) and the reason."""

    code: int
    reason: str


SLOW = Ending(1013, "slow consumer")


class Outgoing:
    """
    Messages in the order in which they came. One that has the key of a message that still waits takes its place, so
    that a slow client gets the newest of each key; without a key every message is sent.

    More than *most* at once are too many: `ended` is set, and nothing is taken any more.
    """

    def __init__(self, most: int) -> None:
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._most = most
        self._waiting: OrderedDict[Hashable, str] = OrderedDict()
        self._ignored: set[Hashable] = set()
        self._filled = asyncio.Event()

    def put(self, text: str, key: Hashable | None = None) -> None:
        """Have *text* sent."""
        if self.ended.done():
            return
        if key in self._ignored:
            self._ignored.discard(key)
            return
        place = object() if key is None else key
        if place not in self._waiting and len(self._waiting) >= self._most:
            self.end(SLOW)
            return
        self._waiting[place] = text
        self._filled.set()

    def put_first(self, text: str) -> None:
        """Have *text* sent before all that waits, however much that is."""
        if not self.ended.done():
            place = object()
            self._waiting[place] = text
            self._waiting.move_to_end(place, last=False)
            self._filled.set()

    async def get(self) -> str:
        """Wait for the next message to send, and take it."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        _, text = self._waiting.popitem(last=False)
        return text

    def ignore(self, keys: Iterable[Hashable]) -> None:
        """Send nothing that has one of *keys*, whether it waits here or is still to come; once for each."""
        for key in keys:
            if self._waiting.pop(key, None) is None:
                self._ignored.add(key)

    def end(self, ending: Ending) -> None:
        """Send nothing more; whoever serves this client closes its connection so."""
        if not self.ended.done():
            self.ended.set_result(ending)
        self._waiting.clear()
