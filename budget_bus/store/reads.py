"""What the gateway reads of the books: usage sums, holds, alerts, progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

import asyncpg

from budget_bus.errors import NotFound
from budget_bus.policy.budget import Policy
from budget_bus.store.changes import Noted, note
from budget_bus.store.sql import queries

_SQL = queries("reads")

GROUPS = ("component", "provider", "model", "task_type", "user", "context_id")
_BUCKET_S = 900
_HOUR_S = 3600


class Progress(NamedTuple):
    """How far one partition is applied; all its records older than `watermark_at` are in the books."""

    next_offset: int
    watermark_at: datetime


class Spans(NamedTuple):
    """
    Where each part of a span is read: the ledger for `[start, buckets_start)` and `[buckets_end, end)`, sums of hours
    for `[hours_start, hours_end)`, and the rollups for what is left in between.
    """

    start: datetime
    buckets_start: datetime
    hours_start: datetime
    hours_end: datetime
    buckets_end: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Recorded:
    """A ledger row as the one who recorded it sees it; costs are nanos, None while unpriced."""

    event_id: UUID
    digest: bytes
    topic: str
    part: int
    record_offset: int
    late: bool
    occurred_at: datetime
    input_tokens: int
    output_tokens: int
    cost_nanos: int | None
    input_cost_nanos: int | None
    output_cost_nanos: int | None
    currency: str
    price_status: Literal["priced", "free", "unpriced", "fallback"]


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Sums of one group in one currency; `key` has the fields grouped by, None where an event had none."""

    key: Mapping[str, str | None]
    currency: str
    requests: int
    input_tokens: int
    output_tokens: int
    cost_nanos: int
    unpriced_requests: int


async def progress(pool: asyncpg.Pool, topic: str) -> dict[int, Progress]:
    """Partition -> how far it is applied; a partition that was never read is missing."""
    rows = await pool.fetch(_SQL["progress"], topic)
    return {row["part"]: Progress(row["next_offset"], row["watermark_at"]) for row in rows}


async def recorded(pool: asyncpg.Pool, event_ids: Sequence[UUID]) -> dict[UUID, Recorded]:
    """Those of *event_ids* that are in the ledger."""
    return {row["event_id"]: Recorded(**row) for row in await pool.fetch(_SQL["recorded"], list(event_ids))}


async def usage(
    pool: asyncpg.Pool | asyncpg.Connection,
    start: datetime,
    end: datetime,
    *,
    group_by: Sequence[str],
    filters: Mapping[str, Sequence[str]],
) -> list[UsageSum]:
    """
    Sums of the events that occurred in `[start, end)`, one per group and currency: rollups for whole buckets and hours,
    the ledger for what lies at the edges, all of one snapshot.

    *filters* gives the allowed values of some of GROUPS; providers are stored names.
    """
    rows = await pool.fetch(
        _SQL["usage"],
        *await spans(pool, start, end),
        *(name in group_by for name in GROUPS),
        *(list(filters[name]) if filters.get(name) else None for name in GROUPS),
    )
    return [
        UsageSum(
            {name: row[name] or None for name in group_by},
            row["currency"],
            int(row["requests"]),
            int(row["input_tokens"]),
            int(row["output_tokens"]),
            int(row["cost_nanos"]),
            int(row["unpriced_requests"]),
        )
        for row in rows
    ]


async def consumed(pool: asyncpg.Pool, topics: Sequence[str]) -> list[str]:
    """Those of *topics* of which every partition has had a consumer at work within the last seconds."""
    return [row["topic"] for row in await pool.fetch(_SQL["consumed"], topics)]


async def default_policy(pool: asyncpg.Pool, setting: Policy) -> Policy:
    """The policy of budgets that name none: what an operator set at run time, else *setting*."""
    level = await pool.fetchval(_SQL["enforcement_level"])
    return Policy(level) if level else setting


async def hold_counts(pool: asyncpg.Pool) -> dict[str, int]:
    """How many holds are open and how many unconfirmed."""
    counts = {row["state"]: row["holds"] for row in await pool.fetch(_SQL["hold_counts"])}
    return {"open": counts.get("open", 0), "unconfirmed": counts.get("unconfirmed", 0)}


async def hold(pool: asyncpg.Pool, request_id: UUID) -> dict[str, Any]:
    """
    One hold, whatever its state.

    Raises:
        NotFound: no approved check with that id placed one.
    """
    row = await pool.fetchrow(_SQL["hold"], request_id)
    if row is None:
        raise NotFound(f"no hold {request_id}")
    return dict(row)


async def holds(
    pool: asyncpg.Pool,
    state: str,
    *,
    filters: Mapping[str, Sequence[str]],
    after: tuple[datetime, UUID] | None,
    count: int,
) -> list[dict[str, Any]]:
    """At most *count* holds in *state*, oldest first, after the one decided at *after*."""
    picked = [list(filters[name]) if filters.get(name) else None for name in ("component", "provider", "model")]
    rows = await pool.fetch(_SQL["holds"], state, *picked, *(after or (None, None)), count)
    return [dict(row) for row in rows]


async def alerts(
    pool: asyncpg.Pool,
    *,
    budget_ids: Sequence[UUID] | None,
    acknowledged: bool | None,
    before: tuple[datetime, UUID] | None,
    count: int,
) -> list[dict[str, Any]]:
    """At most *count* alerts, newest first, before the one raised at *before*."""
    picked = list(budget_ids) if budget_ids else None
    rows = await pool.fetch(_SQL["alerts"], picked, acknowledged, *(before or (None, None)), count)
    return [dict(row) for row in rows]


async def acknowledge(pool: asyncpg.Pool, alert_id: UUID, *, actor: str, now: datetime) -> dict[str, Any]:
    """
    Note that *actor* knows of an alert, unless somebody did before; what is noted. The first time is audited.

    Raises:
        NotFound: there is no such alert.
    """
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(_SQL["acknowledge"], alert_id, now, actor)
        if row is not None:
            told = {name: row["payload"].get(name) for name in ("alert_id", "type", "budget_id", "name")}
            before, after = ({**told, "acknowledged": done} for done in (False, True))
            await note(connection, Noted("alert", before, after, str(alert_id)), actor=actor, at=now)
            return dict(row)
        row = await connection.fetchrow(_SQL["alert"], alert_id)
    if row is None:
        raise NotFound(f"no alert {alert_id}")
    return dict(row)


async def alert_raised_at(pool: asyncpg.Pool, alert_id: UUID) -> datetime | None:
    """When an alert was raised; None if there is no such alert."""
    raised_at: datetime | None = await pool.fetchval(_SQL["alert_raised_at"], alert_id)
    return raised_at


async def alerts_since(pool: asyncpg.Pool, raised_at: datetime, *, but: UUID, count: int) -> list[dict[str, Any]]:
    """At most *count* alerts, newest first, raised at *raised_at* or later; all but the one named."""
    return [dict(row) for row in await pool.fetch(_SQL["alerts_since"], raised_at, but, count)]


async def booked(pool: asyncpg.Pool, event_ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
    """The ledger's rows of *event_ids*, of those that are in it."""
    return {row["event_id"]: dict(row) for row in await pool.fetch(_SQL["booked"], list(event_ids))}


async def server_version(pool: asyncpg.Pool) -> str:
    """The database server's version; asking proves that it answers."""
    return str(await pool.fetchval(_SQL["server_version"]))


async def spans(
    pool: asyncpg.Pool | asyncpg.Connection, start: datetime, end: datetime, *, by_hour: bool = True
) -> Spans:
    """
    Where to read the sums of `[start, end)`; no hours unless *by_hour*.

    What is folded stays so, so the answer is as right in a later snapshot.
    """
    first, last = _up(start, _BUCKET_S), _down(end, _BUCKET_S)
    if first >= last:
        return Spans(start, *[end] * 5)
    hours_start = _up(first, _HOUR_S)
    hours_end = min(_down(last, _HOUR_S), await pool.fetchval(_SQL["hours_until"])) if by_hour else first
    if hours_start >= hours_end:
        return Spans(start, first, last, last, last, end)
    return Spans(start, first, hours_start, hours_end, last, end)


def _down(at: datetime, step_s: int) -> datetime:
    seconds = int(at.timestamp())
    return datetime.fromtimestamp(seconds - seconds % step_s, UTC)


def _up(at: datetime, step_s: int) -> datetime:
    floor = _down(at, step_s)
    return floor if floor == at else floor + timedelta(seconds=step_s)
