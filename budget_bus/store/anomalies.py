"""What is read to find anomalies, and their episodes: from when one was found to when it was seen to be over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg

from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.store.sql import queries

_SQL = queries("anomalies")
_LOCK = 0x6275646706  # one watcher at a time
_MOST_CONTEXTS = 500
_QUARTERS_FOR_PACE = 20

Source: TypeAlias = asyncpg.Connection | asyncpg.Pool


class Used(NamedTuple):
    """What one model of one component used in a bucket, or in a minute, that begins at `at`."""

    at: datetime
    component: str
    provider: str
    model: str
    requests: int
    cost_nanos: int


class TurnRow(NamedTuple):
    """One call of a context."""

    context_id: str
    component: str
    at: datetime
    provider: str
    model: str
    input_tokens: int
    cost_nanos: int


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Something wrong: `observed` is beyond `expected`, both in nanos of currency or in requests, from `since` to `at`.
    """

    kind: str
    scope: dict[str, Any]
    at: datetime
    since: datetime
    observed: int
    expected: int
    unit: str
    currency: str | None
    reason: str


class Episode(NamedTuple):
    """A finding that was told; `pause_ends` is when the breaker's pause ends or ended, None: not by itself."""

    anomaly_id: UUID
    kind: str
    scope: dict[str, Any]
    at: datetime
    since: datetime
    last_seen_at: datetime
    ended_at: datetime | None
    pause_id: UUID | None
    pause_ends: datetime | None


@dataclass(frozen=True, slots=True)
class Told:
    """An episode as it is listed."""

    anomaly_id: UUID
    finding: Finding
    last_seen_at: datetime
    ended_at: datetime | None
    pause_id: UUID | None


async def watch_alone(connection: asyncpg.Connection) -> bool:
    """Whether nobody else watches until this transaction ends."""
    return bool(await connection.fetchval(_SQL["alone"], _LOCK))


async def buckets(source: Source, start: datetime, end: datetime) -> list[Used]:
    """What each bucket of the rollups in `[start, end)` had."""
    rows = await source.fetch(_SQL["buckets"], start, end, PRICE_CURRENCY)
    return [Used(*row) for row in rows]


async def paces(source: Source, start: datetime, end: datetime) -> dict[tuple[str, str, str], int]:
    """(component, provider, model) -> how many calls a context usually makes within a bucket at most."""
    rows = await source.fetch(_SQL["paces"], start, end, _QUARTERS_FOR_PACE)
    return {(row["component"], row["provider"], row["model"]): row["calls"] for row in rows}


async def recent(source: Source, since: datetime) -> list[Used]:
    """What was used after *since*, by minute."""
    return [Used(*row) for row in await source.fetch(_SQL["recent"], since, PRICE_CURRENCY)]


async def turns(source: Source, since: datetime, *, calls: int, floor: int) -> list[TurnRow]:
    """The calls after *since* of contexts that made at least *calls* and spent at least *floor*, in their order."""
    rows = await source.fetch(_SQL["turns"], since, calls, floor, PRICE_CURRENCY, _MOST_CONTEXTS)
    return [TurnRow(*row) for row in rows]


async def usage_read_to(source: Source, usage_topic: str) -> datetime | None:
    """Up to when all usage is in the books; None if nobody has ever read any."""
    read_to: datetime | None = await source.fetchval(_SQL["usage_read_to"], usage_topic)
    return read_to


async def episodes(source: Source, since: datetime) -> list[Episode]:
    """The newest episode of each kind and scope that lasts or was seen after *since*."""
    return [Episode(*row) for row in await source.fetch(_SQL["episodes"], since)]


async def seen(connection: asyncpg.Connection, anomaly_ids: Sequence[UUID], at: datetime) -> None:
    """These episodes last."""
    await connection.execute(_SQL["seen"], list(anomaly_ids), at)


async def over(connection: asyncpg.Connection, anomaly_ids: Iterable[UUID], at: datetime) -> None:
    """These episodes are over."""
    await connection.execute(_SQL["over"], list(anomaly_ids), at)


async def begin(
    connection: asyncpg.Connection, anomaly_id: UUID, found: Finding, *, pause_id: UUID | None = None
) -> bool:
    """Whether this begins an episode; not if one of the same kind and scope lasts."""
    values = [found.kind, found.scope, found.at, found.since, found.observed, found.expected, found.unit,
              found.currency, found.reason, pause_id]  # fmt: skip
    return await connection.fetchval(_SQL["begin"], anomaly_id, *values) is not None


async def spans(source: Source, since: datetime) -> list[tuple[dict[str, Any], datetime, datetime]]:
    """Scope, start and end of what was spent too fast, found since *since*."""
    return [(row["scope"], row["since"], row["until"]) for row in await source.fetch(_SQL["spans"], since)]


async def page(
    pool: asyncpg.Pool,
    *,
    kinds: Sequence[str] = (),
    components: Sequence[str] = (),
    lasting: bool | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: tuple[datetime, UUID] | None = None,
    count: int,
) -> list[Told]:
    """At most *count* episodes found in `[since, until)`, newest first, before the one found at *before*."""
    values = [list(kinds) or None, lasting, since, until, *(before or (None, None)), count, list(components) or None]
    return [
        Told(
            row["anomaly_id"],
            Finding(row["kind"], row["scope"], row["at"], row["since"], row["observed"], row["expected"],
                    row["unit"], row["currency"], row["reason"]),
            row["last_seen_at"],
            row["ended_at"],
            row["pause_id"],
        )
        for row in await pool.fetch(_SQL["page"], *values)
    ]  # fmt: skip
