"""How many requests one key, or without keys one address, may make per second."""

from __future__ import annotations

import time

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from budget_bus.errors import Rejected


class TooMany(Rejected):
    """More requests than are answered; `retry_after_s` says when there is room again."""

    retry_after_s: int = 1


class Pace:
    """
    The limit of one gateway, kept in its memory: with several gateways each has its own. None is no limit.

    The window slides, weighted by how far it has, so that no two bursts fit at the turn of a second.
    """

    def __init__(self, per_second: int | None) -> None:
        self._item = RateLimitItemPerSecond(per_second) if per_second else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def admit(self, actor: str) -> None:
        """
        Count a request of *actor*.

        Raises:
            TooMany: it has made as many as it may.
        """
        if self._item is None or await self._limiter.hit(self._item, actor):
            return
        stats = await self._limiter.get_window_stats(self._item, actor)
        error = TooMany(f"more than {self._item.amount} requests in a second by {actor}; wait and try again")
        error.retry_after_s = max(1, round(stats.reset_time - time.time()))
        raise error
