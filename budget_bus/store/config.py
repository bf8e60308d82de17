"""
Run-time settings: changed as limits are, under the exclusive catalogue lock, so that no batch decides on an old one.

Which keys there are and what they may hold is the caller's to know; here a value is JSON under a name.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from budget_bus.store.changes import Noted, note
from budget_bus.store.fence import lock_catalogue
from budget_bus.store.sql import queries

_SQL = queries("config")
_CATALOGUE = queries("catalogue")


async def values(pool: asyncpg.Pool | asyncpg.Connection, keys: Sequence[str]) -> dict[str, Any]:
    """What was set at run time under *keys*; a key that was not is missing."""
    return {row["key"]: row["value"] for row in await pool.fetch(_SQL["values"], keys)}


async def set_value(pool: asyncpg.Pool, key: str, value: Any, *, actor: str) -> bool:
    """
    Set *key* to *value*, JSON other than null, with its audit row and its `budget.changes` fact in one transaction.

    Returns:
        Whether that changed anything; setting it to what it is writes nothing.
    """
    async with pool.acquire() as connection, connection.transaction():
        before = await _enter(connection, key)
        if before == value:
            return False
        await connection.execute(_CATALOGUE["set_config"], key, value)
        await _audit(connection, key, before, value, actor)
        return True


async def unset_value(pool: asyncpg.Pool, key: str, *, actor: str) -> bool:
    """
    Take back what was set at run time; audited as `set_value` is.

    Returns:
        Whether there was anything.
    """
    async with pool.acquire() as connection, connection.transaction():
        before = await _enter(connection, key)
        if before is None:
            return False
        await connection.execute(_SQL["unset"], key)
        await _audit(connection, key, before, None, actor)
        return True


async def _enter(connection: asyncpg.Connection, key: str) -> Any:
    """Wait until no batch is under way, and say what is set now, None for nothing."""
    await lock_catalogue(connection)
    return await connection.fetchval(_CATALOGUE["config"], key)


async def _audit(connection: asyncpg.Connection, key: str, before: Any, after: Any, actor: str) -> None:
    # Consumers read what was set again when the version is a new one.
    await connection.execute(_CATALOGUE["bump"])
    was, now = ({"key": key, "value": value} if value is not None else None for value in (before, after))
    await note(connection, Noted("config", was, now, key), actor=actor, at=datetime.now(UTC))
