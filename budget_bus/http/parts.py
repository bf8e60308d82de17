"""What the handlers are handed, instead of reaching for globals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

import asyncpg

from budget_bus.http.admission import Keys, Principal
from budget_bus.http.lag import LogEnds
from budget_bus.http.pace import Pace
from budget_bus.producers.bus import BudgetBus
from budget_bus.providers.prices import PriceBook
from budget_bus.settings import Settings

Q = TypeVar("Q")
B = TypeVar("B")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Reading(Protocol):
    """The parts of whoever reads the books: a gateway, or a role that has no bus."""

    @property
    def settings(self) -> Settings: ...
    @property
    def pool(self) -> asyncpg.Pool: ...
    @property
    def prices(self) -> PriceBook: ...
    @property
    def now(self) -> Callable[[], datetime]: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The opened parts of one gateway."""

    settings: Settings
    pool: asyncpg.Pool
    bus: BudgetBus
    log_ends: LogEnds
    keys: Keys
    pace: Pace = field(default_factory=lambda: Pace(None))
    prices: PriceBook = field(default_factory=PriceBook)
    settling_patience_s: float = 5.0  # how long ?wait=true waits for the settler
    now: Callable[[], datetime] = _utc_now
    started_s: float = field(default_factory=time.monotonic)
    # An export keeps a connection for as long as its reader takes, so there are always some left for others.
    exporting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    # One replay at a time, for whatever it is asked.
    simulating: asyncio.Lock = field(default_factory=asyncio.Lock)
    consumed: set[str] = field(default_factory=set)  # the topics whose consumers have been seen at work


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """One request, read and validated; *principal* has the role that the endpoint needs."""

    parts: Parts
    path: dict[str, str]
    query: Q
    body: B
    principal: Principal

    @property
    def actor(self) -> str:
        """Who is written into the audit feed."""
        return self.principal.actor
