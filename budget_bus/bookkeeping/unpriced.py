"""Usage that had no price is priced by itself when a price arrives."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import asyncpg
import structlog

from budget_bus.bookkeeping.restating import Restating
from budget_bus.consumers.prices import refresh_prices
from budget_bus.errors import Conflict
from budget_bus.providers.prices import PriceBook
from budget_bus.store.catalogue import Catalogue, catalogue_version
from budget_bus.store.restatements import Range

log = structlog.get_logger()

POLL_S = 1.0


async def price_unpriced(pool: asyncpg.Pool, catalogue: Catalogue, prices: PriceBook) -> int:
    """
    Price all usage that has none and could have one; how many rows that were.

    Raises:
        Conflict: costs are being restated by another process.
    """
    async with pool.acquire() as connection:
        work = Restating(
            connection=connection,
            catalogue=catalogue,
            prices=prices,
            wanted=Range(only_unpriced=True),
            actor="bookkeeper",
            reason="a price arrived",
            now=lambda: datetime.now(UTC),
            progress=lambda *_: None,
        )
        return await work.run()


async def keep_pricing(
    pool: asyncpg.Pool, catalogue: Catalogue, prices: PriceBook, stopping: asyncio.Event, *, poll_s: float = POLL_S
) -> None:
    """
    Price what had no price at once, and again whenever prices are others, until *stopping*.

    In between it asks for one number a second. What the database says is no reason to end: it is tried again.
    """
    due, version = True, 0
    while not stopping.is_set():
        try:
            newest = await catalogue_version(pool)
            if newest != version:
                async with pool.acquire() as connection:
                    due = await refresh_prices(connection, prices, newest) or due
            if due:
                if priced := await price_unpriced(pool, catalogue, prices):
                    log.info("usage without a price has one now", rows=priced)
                due = False
            version = newest
        except Conflict:
            due = True  # somebody restates by hand; what is left after that is ours
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            due = True
            log.warning("pricing is tried again", reason=f"{type(error).__name__}: {error}")
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), poll_s)
