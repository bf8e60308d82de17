"""Exchange rates for the budgets that need them: there before the first budget of a currency, and kept up to date."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

import asyncpg
import structlog

from budget_bus import metrics
from budget_bus.bookkeeping.price_updates import fetch
from budget_bus.errors import BudgetUnavailable, Rejected
from budget_bus.policy.exchange import STALE_AFTER
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.providers import exchange as ecb
from budget_bus.store import exchange

log = structlog.get_logger()

INTERVAL_S = 6 * 3600.0
# A batch that has begun before midnight may count by the next day: events may be up to 5 minutes ahead.
_MARGIN = timedelta(minutes=15)


async def ensure_rates(pool: asyncpg.Pool, currency: str, *, now: datetime | None = None) -> None:
    """
    Have rates between *currency* and what prices are in; does nothing where they are there.

    Raises:
        Rejected: the ECB has none of it.
    """
    if currency == PRICE_CURRENCY:
        return
    there = await exchange.newest(pool)
    rates = ecb.bundled()
    for code in (PRICE_CURRENCY, currency):
        if code != "EUR" and code not in there:
            await exchange.add(
                pool,
                code,
                await asyncio.to_thread(rates.publications, code),
                first_open_day=first_open_day(now or datetime.now(UTC)),
                source=rates.source,
            )


def first_open_day(now: datetime) -> date:
    """The first UTC day by which nothing can have been counted yet."""
    return (now.astimezone(UTC) + _MARGIN).date() + timedelta(days=1)


async def update_rates(pool: asyncpg.Pool, url: str | None, *, now: datetime | None = None) -> int:
    """
    Add what was published since, of the installed release and, if there is a *url*, of the file there.

    Returns:
        How many rates were added.

    Raises:
        BudgetUnavailable: nothing usable answers at *url*.
        Rejected: what is there is no table of rates.
    """
    there = await exchange.newest(pool)
    if not there:
        return 0
    tables = [ecb.bundled()]
    failed: BudgetUnavailable | Rejected | None = None
    if url:
        try:
            tables.append(await asyncio.to_thread(ecb.read_file, await fetch(url), url))
        except (BudgetUnavailable, Rejected) as error:
            failed = error
    at, added = now or datetime.now(UTC), 0
    for table in tables:
        for currency, last in there.items():
            found = await asyncio.to_thread(table.publications, currency, after=last.published)
            if found:
                added += await exchange.add(
                    pool, currency, found, first_open_day=first_open_day(at), source=table.source
                )
    for currency, last in (await exchange.newest(pool)).items():
        metrics.EXCHANGE_RATE_AGE.labels(currency).set((at.date() - last.published).total_seconds())
        if at.date() - last.published > STALE_AFTER:
            log.warning("an exchange rate is stale", currency=currency, published=str(last.published))
    if failed:
        raise failed
    return added


async def keep_rates(
    pool: asyncpg.Pool, stopping: asyncio.Event, *, url: str | None, interval_s: float = INTERVAL_S
) -> None:
    """Update at once and every *interval_s* seconds until *stopping*; what fails is tried again then."""
    while not stopping.is_set():
        try:
            if added := await update_rates(pool, url):
                log.info("there are newer exchange rates", added=added)
        except (BudgetUnavailable, Rejected) as error:
            log.info("the exchange rates stay as they are", reason=str(error))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            log.warning("updating exchange rates is tried again", reason=f"{type(error).__name__}: {error}")
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), interval_s)
