"""Pauses: begun and ended as limits are changed, so that the first decision after the commit heeds them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from budget_bus.errors import FieldError, NotFound, Rejected
from budget_bus.policy.pause import Pause
from budget_bus.policy.scope import Scope, parse_scope
from budget_bus.store import outbox
from budget_bus.store.fence import lock_catalogue
from budget_bus.store.sql import queries

_SQL = queries("pauses")
_CATALOGUE = queries("catalogue")


@dataclass(frozen=True, slots=True)
class Kept:
    """A pause, and how it ended; `ended_by` None: by itself, or not yet."""

    pause: Pause
    ended_at: datetime | None = None
    ended_by: str | None = None
    end_reason: str | None = None

    def holds(self, now: datetime) -> bool:
        return self.ended_at is None and self.pause.holds(now)

    def describe(self) -> dict[str, Any]:
        """As the audit feed and the interface write it."""
        one = self.pause
        # Until it is swept up, nothing says of one that ended by itself when that was.
        return {
            "pause_id": str(one.pause_id), "scope": one.scope.to_json(), "reason": one.reason, "actor": one.actor,
            "since": _write(one.since), "until": _write(one.until), "ended_at": _write(self.ended_at),
            "ended_by": self.ended_by, "end_reason": self.end_reason,
        }  # fmt: skip


async def unended(connection: asyncpg.Connection | asyncpg.Pool) -> list[Pause]:
    """The pauses that nobody has ended, oldest first."""
    return [_pause(row) for row in await connection.fetch(_SQL["unended"])]


async def pause(
    pool: asyncpg.Pool, scope: Scope, *, reason: str, actor: str, until: datetime | None, now: datetime
) -> tuple[Kept, bool]:
    """
    Pause *scope* until *until*, or until it is resumed. What is paused already gets this reason and end instead.

    Returns:
        The pause, and whether it is a new one.

    Raises:
        Rejected: *until* is past.
    """
    if until is not None and until <= now:
        raise Rejected("invalid input", [FieldError("until", "must be in the future")])
    async with pool.acquire() as connection, connection.transaction():
        await lock_catalogue(connection)
        return await begin(connection, scope, reason=reason, actor=actor, until=until, now=now)


async def begin(
    connection: asyncpg.Connection, scope: Scope, *, reason: str, actor: str, until: datetime | None, now: datetime
) -> tuple[Kept, bool]:
    """As `pause`, in a transaction that has the catalogue's lock alone."""
    await connection.execute(_SQL["sweep"], now)
    before = await connection.fetchrow(_SQL["same"], scope.to_json())
    if before is None:
        values = [uuid.uuid4(), scope.to_json(), reason, actor, now, until]
        after = await connection.fetchrow(_SQL["insert"], *values)
    else:
        after = await connection.fetchrow(_SQL["change"], before["pause_id"], reason, actor, until)
    await _audit(connection, before and _kept(before), _kept(after), actor, now)
    return _kept(after), before is None


async def resume(pool: asyncpg.Pool, pause_id: uuid.UUID, *, reason: str | None, actor: str, now: datetime) -> Kept:
    """
    End a pause. One that has ended stays as it ended, so that doing it again changes nothing.

    Raises:
        NotFound: there was never such a pause.
    """
    async with pool.acquire() as connection, connection.transaction():
        await lock_catalogue(connection)
        await connection.execute(_SQL["sweep"], now)
        before = await connection.fetchrow(_SQL["one"], pause_id)
        if before is None:
            raise NotFound(f"no pause {pause_id}; `budget pauses` lists them")
        if before["ended_at"] is not None:
            return _kept(before)
        after = _kept(await connection.fetchrow(_SQL["end"], pause_id, now, actor, reason))
        await _audit(connection, _kept(before), after, actor, now)
        return after


async def page(
    pool: asyncpg.Pool, *, active: bool | None, now: datetime, before: tuple[datetime, uuid.UUID] | None, count: int
) -> list[Kept]:
    """At most *count* pauses, newest first, that hold at *now* (*active*), do not (False), or all of them."""
    return [_kept(row) for row in await pool.fetch(_SQL["page"], active, now, *(before or (None, None)), count)]


def _pause(row: Any) -> Pause:
    return Pause(
        row["pause_id"], parse_scope(row["scope"]), row["reason"], row["actor"], row["since"], row["until"]
    )  # fmt: skip


def _kept(row: Any) -> Kept:
    return Kept(_pause(row), row["ended_at"], row["ended_by"], row["end_reason"])


def _write(at: datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None


async def _audit(connection: asyncpg.Connection, before: Kept | None, after: Kept, actor: str, at: datetime) -> None:
    await connection.execute(_CATALOGUE["bump"])
    change_id = uuid.uuid4()
    was, now = before and before.describe(), after.describe()
    await connection.execute(_CATALOGUE["audit"], change_id, "pause", was, now, actor, at)
    fact = {"change_id": str(change_id), "kind": "pause", "before": was, "after": now, "actor": actor, "at": at}
    await outbox.put(
        connection, [outbox.Message("budget.changes", str(after.pause.pause_id).encode(), outbox.to_json(fact))]
    )
