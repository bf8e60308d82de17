"""The past as it lies in the books, for a replay: read in order, a few rows at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import asyncpg

from budget_bus.store.sql import queries

_SQL = queries("replays")
AT_ONCE = 2_000


async def count(connection: asyncpg.Connection, start: datetime, end: datetime) -> int:
    """How many events occurred in `[start, end)`."""
    return int(await connection.fetchval(_SQL["count"], start, end))


async def used(connection: asyncpg.Connection, start: datetime, end: datetime) -> AsyncGenerator[list[Any]]:
    """The events that occurred in `[start, end)` by time; the connection is in a transaction."""
    cursor = await connection.cursor(_SQL["used"], start, end)
    while rows := await cursor.fetch(AT_ONCE):
        yield rows
