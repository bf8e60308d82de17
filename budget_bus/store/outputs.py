"""How much the calls of late put out, per component and model."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import asyncpg

from budget_bus.store.sql import queries

_SQL = queries("outputs")

Group = tuple[str, str, str]  # component, provider, model

NEWEST_ROWS: Final = 200_000
FEWEST_EVENTS: Final = 20
TIMEOUT_MS: Final = 5_000
# Each reaches back four times as far as the one before, so what is sorted is a few times what is wanted.
_SPANS: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 4, 16, 64, 256, 1440))


async def recent_p99(pool: asyncpg.Pool, now: datetime, *, newest: int = NEWEST_ROWS) -> dict[Group, int]:
    """
    The 99th percentile of the output tokens of those calls that occurred in the 24 hours before *now*.

    Of more than *newest* only the newest are looked at; a group of fewer than 20 of them is left out. The percentile
    is an amount that really occurred. Nothing is written, and no statement takes longer than 5 s.

    Raises:
        asyncpg.PostgresError, asyncpg.InterfaceError, OSError: the database did not answer, or not in time.
    """
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute(_SQL["hurry"], str(TIMEOUT_MS))
        since = now - _SPANS[-1]
        for span in _SPANS[:-1]:
            # A day of a busy ledger has hundreds of millions of rows; they must not be sorted to find the newest.
            if await connection.fetchval(_SQL["count_at_most"], now - span, now, newest) >= newest:
                since = now - span
                break
        rows = await connection.fetch(_SQL["p99"], since, now, newest, FEWEST_EVENTS)
    return {(row["component"], row["provider"], row["model"]): row["p99"] for row in rows}
