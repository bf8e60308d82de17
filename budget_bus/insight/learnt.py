"""What is usual, learnt from the rollups of the last four weeks and kept in memory: a restart learns it again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg

from budget_bus.policy.velocity import BUCKET, bucket_of
from budget_bus.store import anomalies
from budget_bus.store.anomalies import Used

MEMORY = timedelta(days=28)
_PACE_MEMORY = timedelta(days=7)
_AGAIN = 4 * BUCKET  # late usage may still change a closed bucket
_PACE_EVERY = timedelta(hours=1)

# A component, or one model of it.
Key = tuple[str, str, str] | tuple[str]


@dataclass(slots=True)
class Learnt:
    """
    Per component and per model of one: what each bucket cost; per component: its calls. `paces` are the calls that a
    context usually makes within a bucket at most.
    """

    costs: dict[Key, dict[datetime, int]] = field(default_factory=lambda: defaultdict(dict))
    calls: dict[str, dict[datetime, int]] = field(default_factory=lambda: defaultdict(dict))
    paces: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _read_to: datetime | None = None
    _paced_at: datetime | None = None

    async def read(self, source: asyncpg.Connection | asyncpg.Pool, now: datetime) -> None:
        """Take in the buckets that have closed since the last time; the first time all of four weeks."""
        here = bucket_of(now)
        start = here - MEMORY if self._read_to is None else self._read_to - _AGAIN
        self.take(await anomalies.buckets(source, start, here), start)
        self._forget(here - MEMORY)
        self._read_to = here
        if self._paced_at is None or now - self._paced_at >= _PACE_EVERY:
            self.paces = await anomalies.paces(source, here - _PACE_MEMORY, here)
            self._paced_at = now

    def take(self, rows: Iterable[Used], start: datetime) -> None:
        """Put what each bucket had from *start* on in the place of what was known of it."""
        for places in self._all():
            for place in [place for place in places if place >= start]:
                del places[place]
        for row in rows:
            for key in keys_of(row):
                places = self.costs[key]
                places[row.at] = places.get(row.at, 0) + row.cost_nanos
            calls = self.calls[row.component]
            calls[row.at] = calls.get(row.at, 0) + row.requests

    def _forget(self, before: datetime) -> None:
        for places in self._all():
            for place in [place for place in places if place < before]:
                del places[place]

    def _all(self) -> Iterator[dict[datetime, int]]:
        yield from self.costs.values()
        yield from self.calls.values()


def keys_of(used: Used) -> tuple[Key, Key]:
    """What is watched that *used* belongs to: its component, and its model."""
    return (used.component,), (used.component, used.provider, used.model)


def utc_now() -> datetime:
    """The clock of those who have no other."""
    return datetime.now(UTC)
