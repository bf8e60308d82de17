"""What providers say that they charged, and what the rollups say of the same days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import asyncpg

from budget_bus.store.changes import Noted, note
from budget_bus.store.sql import queries

_SQL = queries("invoices")


class Invoiced(NamedTuple):
    """One item of a day; costs are nanos."""

    provider: str
    day: date
    item: str
    model: str | None
    currency: str
    cost_nanos: int


class Booked(NamedTuple):
    """What the books have of a model on a UTC day."""

    provider: str
    day: date
    model: str
    currency: str
    cost_nanos: int
    requests: int
    unpriced_requests: int


async def replace(
    pool: asyncpg.Pool,
    provider: str,
    days: Sequence[date],
    lines: Sequence[tuple[date, str, str | None, str, int]],
    *,
    actor: str,
) -> int:
    """
    Take *lines* (day, item, model, currency, nanos) for all that is known of *days*, in one transaction, audited.

    Returns:
        How many lines are new or others than before; the same export again changes none.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_SQL["lock"], provider)
        columns: list[Any] = [list(column) for column in zip(*lines, strict=True)] if lines else [[]] * 5
        removed = await connection.fetch(_SQL["remove"], provider, list(days), columns[0], columns[1], columns[3])
        changed = await connection.fetch(_SQL["put"], provider, *columns, actor)
        if count := len(changed) + len(removed):
            told = {"first_day": str(min(days)), "last_day": str(max(days)), "changed_lines": count}
            after = {"invoice": {"provider": provider, **told}}
            await note(connection, Noted("config", None, after, "invoice"), actor=actor, at=datetime.now(UTC))
    return count


async def invoiced(pool: asyncpg.Pool, start: date, end: date, providers: Sequence[str]) -> list[Invoiced]:
    """All lines of the days in `[start, end)`, of *providers* or of all."""
    return [Invoiced(*row) for row in await pool.fetch(_SQL["invoiced"], start, end, list(providers))]


async def booked(pool: asyncpg.Pool, start: date, end: date, providers: Sequence[str]) -> list[Booked]:
    """The sums of the rollups of the same days."""
    return [Booked(*row) for row in await pool.fetch(_SQL["booked"], start, end, list(providers))]
