"""Rollups of past hours become one row for each hour, so that reports of a month have fewer to read."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic

import asyncpg
import structlog

from budget_bus.consumers.batch import Clock, utc_now
from budget_bus.store import fence, ledger

log = structlog.get_logger()

_GRACE = timedelta(hours=1)  # most of what is late has come by then: it costs one row more once its hour is folded
_PAUSE_S = 60.0
_REST = 3.0  # times as long as an hour took: with many behind, consumers wait for a quarter of the time at most
_PATIENCE_MS = 200  # while one waits for the lock, whoever comes after waits as well


async def fold(pool: asyncpg.Pool, upto: datetime) -> bool:
    """
    Fold the next hour, if it ends by *upto*, while no batch is under way.

    Raises:
        asyncpg.LockNotAvailableError: a batch takes long; nothing was done.
    """
    async with pool.acquire() as connection, connection.transaction():
        await fence.lock_catalogue(connection, patience_ms=_PATIENCE_MS)
        return await ledger.fold_hour(connection, upto)


async def keep_folding(pool: asyncpg.Pool, stopping: asyncio.Event, clock: Clock = utc_now) -> None:
    """Fold each hour an hour after its end, and all that are behind, until *stopping*."""
    while not stopping.is_set():
        began, pause = monotonic(), _PAUSE_S
        try:
            if await fold(pool, clock() - _GRACE):
                pause = (monotonic() - began) * _REST
        except asyncpg.LockNotAvailableError:
            pause = 1.0
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            log.warning("folding hours is tried again", reason=f"{type(error).__name__}: {error}")
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause)
