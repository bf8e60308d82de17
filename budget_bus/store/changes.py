"""The audit table: who changed what, before and after, each row with its `budget.changes` fact."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from budget_bus.store import outbox
from budget_bus.store.sql import queries

_SQL = queries("changes")
_CATALOGUE = queries("catalogue")


@dataclass(frozen=True, slots=True)
class Noted:
    """One change. `before` None: it was not there; `after` None: it is no more. *key* is that of the record."""

    kind: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    key: str


async def note(
    connection: asyncpg.Connection, change: Noted, *, actor: str, at: datetime, change_id: UUID | None = None
) -> bool:
    """Write a change down, in the transaction that makes it; False if *change_id* was noted before, by whomever."""
    row = (change_id or uuid.uuid4(), change.kind, change.before, change.after, actor, at)
    if await connection.fetchval(_CATALOGUE["audit"], *row) is None:
        return False
    fact = dict(zip(("change_id", "kind", "before", "after", "actor", "at"), row, strict=True))
    await outbox.put(connection, [outbox.Message("budget.changes", change.key.encode(), outbox.to_json(fact))])
    return True


async def changes(
    pool: asyncpg.Pool, kinds: Sequence[str] | None, *, before: tuple[datetime, UUID] | None, count: int
) -> list[dict[str, Any]]:
    """At most *count* changes of *kinds* (all), newest first, before the one made at *before*."""
    return [dict(row) for row in await pool.fetch(_SQL["changes"], kinds, *(before or (None, None)), count)]
