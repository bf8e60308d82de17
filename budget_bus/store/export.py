"""Ledger rows, as many as there are, a few at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from budget_bus.store.sql import queries

_SQL = queries("export")

AT_ONCE = 2_000


async def ledger_rows(
    pool: asyncpg.Pool, start: datetime, end: datetime, *, filters: Mapping[str, Sequence[str]]
) -> AsyncGenerator[list[Mapping[str, Any]]]:
    """
    The events that occurred in `[start, end)` by time, at most AT_ONCE in memory; all of one snapshot.

    *filters* gives the allowed values of some of component, provider and model; providers are stored names.
    """
    picked = [list(filters[name]) if filters.get(name) else None for name in ("component", "provider", "model")]
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        cursor = await connection.cursor(_SQL["rows"], start, end, *picked)
        while rows := await cursor.fetch(AT_ONCE):
            yield rows
