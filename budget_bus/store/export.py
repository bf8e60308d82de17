"""Ledger rows, as many as there are, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from budget_bus.store.sql import queries

_SQL = queries("export")

AT_ONCE = 2_000
_CHUNK_BYTES = 256 * 1024
_LONGEST_S = 86_400.0  # a COPY is one statement, and lasts as long as its reader takes


async def ledger_rows(
    pool: asyncpg.Pool, start: datetime, end: datetime, *, filters: Mapping[str, Sequence[str]]
) -> AsyncGenerator[list[Mapping[str, Any]]]:
    """
    The events that occurred in `[start, end)` by time, at most AT_ONCE in memory; all of one snapshot.

    *filters* gives the allowed values of some of component, provider and model; providers are stored names.
    """
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        cursor = await connection.cursor(_SQL["rows"], start, end, *_picked(filters))
        while rows := await cursor.fetch(AT_ONCE):
            yield rows


async def ledger_csv(
    pool: asyncpg.Pool, start: datetime, end: datetime, *, filters: Mapping[str, Sequence[str]]
) -> AsyncGenerator[bytes]:
    """As `ledger_rows`, but as lines of CSV without a heading, a few chunks of them in memory."""
    # The end of a COPY must always find room, also when nobody reads any more, so only chunks wait for it.
    chunks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
    room, gathered = asyncio.Semaphore(2), bytearray()

    async def gather(some: bytes) -> None:
        gathered.extend(some)
        if len(gathered) >= _CHUNK_BYTES:
            await room.acquire()
            chunks.put_nowait(bytes(gathered))
            gathered.clear()

    async def copy(connection: Any) -> None:
        try:
            await connection.copy_from_query(
                _SQL["lines"], start, end, *_picked(filters), output=gather, format="csv", timeout=_LONGEST_S
            )
            chunks.put_nowait(bytes(gathered))
            chunks.put_nowait(None)
        except Exception as error:
            chunks.put_nowait(error)

    async with pool.acquire() as connection:
        copying = asyncio.create_task(copy(connection))
        try:
            while (chunk := await chunks.get()) is not None:
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk
                room.release()
        except BaseException:
            # The reader is gone, say. asyncpg does not bring a connection back from the middle of a COPY.
            connection.terminate()
            raise
        finally:
            copying.cancel()
            await asyncio.wait([copying])


def _picked(filters: Mapping[str, Sequence[str]]) -> list[list[str] | None]:
    return [list(filters[name]) if filters.get(name) else None for name in ("component", "provider", "model")]
