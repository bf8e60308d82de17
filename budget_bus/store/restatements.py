"""Ledger rows whose cost is restated: read in order, written with what they cost before, resumable after a crash."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from budget_bus.errors import Conflict
from budget_bus.store.changes import Noted, note
from budget_bus.store.ledger import RollupKey
from budget_bus.store.sql import queries

_SQL = queries("restatements")
_LOCK = 0x6275646708
_QUARTER = timedelta(minutes=15)
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC)
_NO_ID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Range:
    """Which rows: `[start, end)` of occurred_at, under the stored names; None: all. Or only those without a price."""

    start: datetime | None = None
    end: datetime | None = None
    provider: str | None = None
    model: str | None = None
    only_unpriced: bool = False

    def columns(self) -> tuple[Any, ...]:
        return self.only_unpriced, self.start, self.end, self.provider, self.model


class Slice(NamedTuple):
    """A part of a range that has about so many rows."""

    start: datetime
    end: datetime
    rows: int


class Cursor(NamedTuple):
    """The last row that is done."""

    at: datetime
    event_id: UUID


BEGINNING = Cursor(_FIRST, _NO_ID)


class Running(NamedTuple):
    """A restatement that is under way."""

    restatement_id: UUID
    prices_version: int
    cursor: Cursor
    rows_changed: int


class Restated(NamedTuple):
    """What a row costs now, and what it cost before."""

    event_id: UUID
    cost_nanos: int
    input_cost_nanos: int
    output_cost_nanos: int
    currency: str
    price_status: str
    price_source: str
    was_cost: int | None
    was_input_cost: int | None
    was_output_cost: int | None
    was_currency: str
    was_status: str
    was_source: str


async def lock(connection: asyncpg.Connection) -> None:
    """
    Be the one who restates, until `unlock` or the connection's end.

    Raises:
        Conflict: another one is under way.
    """
    if not await connection.fetchval(_SQL["lock"], _LOCK):
        raise Conflict("costs are being restated by another process; try again when it has ended")
    await connection.execute(_SQL["make_table"])


async def unlock(connection: asyncpg.Connection) -> None:
    """Let others restate."""
    await connection.execute(_SQL["unlock"], _LOCK)


async def slices(connection: asyncpg.Connection, wanted: Range, size: int) -> list[Slice]:
    """*wanted* in parts of about *size* rows, by the rollups; a part is never smaller than a quarter of an hour."""
    start, end = wanted.start or _FIRST, wanted.end or _LAST
    if wanted.only_unpriced:
        return [Slice(start, end, 0)]  # these have an index
    found: list[Slice] = []
    for row in await connection.fetch(_SQL["buckets"], *wanted.columns()[1:]):
        begin, stop, rows = row["bucket_start"], row["bucket_start"] + _QUARTER, row["requests"]
        if found and found[-1].rows + rows <= size:
            begin, rows = found[-1].start, rows + found.pop().rows
        found.append(Slice(begin, stop, rows))
    return [Slice(max(one.start, start), min(one.end, end), one.rows) for one in found]


async def rows_after(
    connection: asyncpg.Connection, wanted: Range, part: Slice, cursor: Cursor, size: int
) -> list[Any]:
    """At most *size* rows of *part* behind *cursor*, in order."""
    query = _SQL["unpriced_rows" if wanted.only_unpriced else "rows"]
    return list(await connection.fetch(query, part.start, part.end, wanted.provider, wanted.model, *cursor, size))


async def running(connection: asyncpg.Connection, wanted: Range) -> Running | None:
    """The restatement of just these rows that did not come to its end."""
    row = await connection.fetchrow(_SQL["running"], *wanted.columns())
    if row is None:
        return None
    cursor = Cursor(row["cursor_at"], row["cursor_id"]) if row["cursor_at"] else BEGINNING
    return Running(row["restatement_id"], row["prices_version"], cursor, row["rows_changed"])


async def begin(connection: asyncpg.Connection, wanted: Range, *, actor: str, reason: str, prices_version: int) -> UUID:
    """Record that a restatement begins."""
    restatement_id = uuid.uuid4()
    await connection.execute(_SQL["begin"], restatement_id, *wanted.columns(), actor, reason, prices_version)
    return restatement_id


async def restate(connection: asyncpg.Connection, restatement_id: UUID, rows: Sequence[Restated]) -> None:
    """Write what rows cost now; what they cost before is kept with the restatement."""
    await connection.copy_records_to_table("restating", records=rows, columns=Restated._fields)
    await connection.execute(_SQL["keep_old"], restatement_id)
    await connection.execute(_SQL["restate"])


async def add_restated(connection: asyncpg.Connection, moved: Mapping[RollupKey, int]) -> None:
    """Add by how many nanos the costs of buckets moved."""
    keys = sorted(key for key, nanos in moved.items() if nanos)
    if keys:
        columns: list[Any] = list(zip(*keys, strict=True))
        await connection.execute(_SQL["add_restated"], *columns, [moved[key] for key in keys])


async def summarize(connection: asyncpg.Connection) -> None:
    """Have what was written found by its time; outside of a transaction. Whoever does not own the ledger does not."""
    with suppress(asyncpg.InsufficientPrivilegeError):
        await connection.execute(_SQL["summarize"])


async def advance(
    connection: asyncpg.Connection,
    restatement_id: UUID,
    cursor: Cursor,
    *,
    prices_version: int,
    changed: int,
    moved: int,
    windows: Mapping[int, int],
) -> None:
    """Note how far it is, in the transaction that has the effects: rows, nanos, and balance_id -> by how much."""
    await connection.execute(_SQL["moved_windows"], restatement_id, list(windows), list(windows.values()))
    await connection.execute(_SQL["advance"], restatement_id, prices_version, *cursor, changed, moved)


async def windows(connection: asyncpg.Connection, restatement_id: UUID) -> dict[int, int]:
    """balance_id -> by how much it was moved, without those that were not."""
    return {row["balance_id"]: row["moved"] for row in await connection.fetch(_SQL["windows"], restatement_id)}


async def finish(connection: asyncpg.Connection, restatement_id: UUID, *, actor: str, at: datetime) -> None:
    """Close it, with its audit row and its `budget.changes` fact."""
    row = await connection.fetchrow(_SQL["finish"], restatement_id)
    what: dict[str, Any] = {name: _json(row[name]) for name in row.keys()}  # noqa: SIM118 - a record has no `in`
    await note(connection, Noted("price", None, {"restatement": what}, "restatement"), actor=actor, at=at)


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value)
    return value if value is None or isinstance(value, (bool, int)) else str(value)
