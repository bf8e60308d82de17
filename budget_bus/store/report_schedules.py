"""Reports that are due again and again: what is asked for, and how delivering them goes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any
from uuid import UUID

import asyncpg

from budget_bus.errors import Conflict, NotFound
from budget_bus.policy.windows import Period
from budget_bus.store.sql import queries

_SQL = queries("report_schedules")

MOST = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    A report every day, week or month, at a time of a zone's clock; *query* is that of a summary without its span. It
    goes to a file or to a webhook, one of them.
    """

    name: str
    every: Period
    at_time: time
    timezone: str
    query: Mapping[str, Any]
    file_name: str | None
    webhook: str | None


@dataclass(frozen=True, slots=True)
class Schedule(Wanted):
    """
    A wanted report as it stands: `due_at` is the next one, or the one that failed *attempts* times for `last_error` and
    is tried again at `attempt_at`; `last_due_at` the last one that was delivered.
    """

    schedule_id: UUID
    due_at: datetime
    attempt_at: datetime
    attempts: int
    last_due_at: datetime | None
    last_error: str | None


async def add(pool: asyncpg.Pool, wanted: Wanted, *, due_at: datetime, actor: str) -> Schedule:
    """
    Have a report made again and again, first at *due_at*.

    Raises:
        Conflict: there are MOST already.
    """
    row = await pool.fetchrow(
        _SQL["add"],
        uuid.uuid4(),
        wanted.name,
        wanted.every.value,
        wanted.at_time,
        wanted.timezone,
        wanted.query,
        wanted.file_name,
        wanted.webhook,
        due_at,
        actor,
        MOST,
    )
    if row is None:
        raise Conflict(f"there are {MOST:,} schedules already; remove one first")
    return _schedule(row)


async def all_schedules(pool: asyncpg.Pool) -> list[Schedule]:
    """All of them, by name."""
    return [_schedule(row) for row in await pool.fetch(_SQL["all"])]


async def remove(pool: asyncpg.Pool, schedule_id: UUID) -> None:
    """
    Have no more of these reports.

    Raises:
        NotFound: there is no such schedule.
    """
    if await pool.execute(_SQL["remove"], schedule_id) == "DELETE 0":
        raise NotFound(f"no schedule {schedule_id}; GET /api/reports/schedules lists them")


@asynccontextmanager
async def due(pool: asyncpg.Pool, now: datetime) -> AsyncIterator[tuple[asyncpg.Connection, Schedule] | None]:
    """One schedule that is due, which nobody else gets until the body is left and its effect is kept; None: no one."""
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(_SQL["lock_due"], now)
        yield (connection, _schedule(row)) if row else None


async def delivered(connection: asyncpg.Connection, schedule_id: UUID, *, next_due: datetime) -> None:
    """Note that the one that was due is delivered, in the transaction of `due`."""
    await connection.execute(_SQL["delivered"], schedule_id, next_due)


async def failed(connection: asyncpg.Connection, schedule_id: UUID, reason: str, *, again_at: datetime) -> None:
    """Note that it could not be delivered, and when to try again, in the transaction of `due`."""
    await connection.execute(_SQL["failed"], schedule_id, reason, again_at)


def _schedule(row: Any) -> Schedule:
    return Schedule(**{**row, "every": Period(row["every"])})
