"""Whether the books add up, asked again and again beside the streams, a little at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from time import monotonic, time

import asyncpg
import structlog

from budget_bus import metrics
from budget_bus.store import admin
from budget_bus.store.admin import Difference

log = structlog.get_logger()

_LOCK = 0x6275646705  # one bookkeeper checks at a time
_REST = 3.0  # times as long as a step took: at most a quarter of one connection's time
_MOST = 20  # differences of one day
_RETRY_S = 60.0


async def check_all(pool: asyncpg.Pool, stopping: asyncio.Event) -> list[Difference] | None:
    """
    What does not add up, of all balances, rollups and holds; each step is a snapshot of its own, with a pause after it.

    None when *stopping* came before the end, or when another bookkeeper is checking.
    """
    async with pool.acquire() as connection:
        if not await admin.take_check_lock(connection, _LOCK):
            return None
        try:
            return await _check_all(connection, stopping)
        finally:
            if not connection.is_closed():
                await admin.give_check_lock(connection, _LOCK)


async def _check_all(connection: asyncpg.Connection, stopping: asyncio.Event) -> list[Difference] | None:
    found: list[Difference] = []

    async def step(work: Awaitable[list[Difference]]) -> bool:
        began = monotonic()
        found.extend(await work)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), (monotonic() - began) * _REST)
        return not stopping.is_set()

    balance_ids, days = await admin.checkable(connection)
    for balance_id in balance_ids:
        if not await step(admin.check_one_balance(connection, balance_id)):
            return None
    for day in days:
        if not await step(admin.check_day(connection, day, _MOST)):
            return None
        if not await step(admin.check_settling(connection, day, _MOST)):
            return None
    after = admin.FIRST_HOLD
    while (page := await admin.hold_page(connection, after)).found:
        if not await step(admin.check_holds(connection, after, page.last)):
            return None
        after = page.last
    return found


async def keep_checking(pool: asyncpg.Pool, stopping: asyncio.Event, *, interval_s: float) -> None:
    """Check at once and every *interval_s* seconds until *stopping*, and tell metrics and log; 0 is never."""
    if interval_s:
        metrics.BOOKS_CHECKING_SINCE.set(time())
    while interval_s and not stopping.is_set():
        pause = interval_s
        try:
            found = await check_all(pool, stopping)
            if found is not None:
                metrics.BOOK_DIFFERENCES.set(len(found))
                metrics.BOOKS_CHECKED_AT.set(time())
                if found:
                    log.error("the books do not add up", differences=len(found), first=found[0]._asdict())
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            log.warning("checking the books is tried again", reason=f"{type(error).__name__}: {error}")
            pause = min(interval_s, _RETRY_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause)
