"""The rates that cost budgets in other currencies count by: added under the exclusive catalogue lock, never changed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

import asyncpg

from budget_bus.policy.exchange import DatedRate, ExchangeRates
from budget_bus.store.fence import lock_catalogue
from budget_bus.store.sql import queries

_SQL = queries("exchange")
_CATALOGUE = queries("catalogue")

EARLIEST = date.min  # the oldest rate holds for all days before it


class Newest(NamedTuple):
    """The last rate of a currency: when it was published, and the first day that it holds for."""

    published: date
    effective_from: date


async def newest(connection: asyncpg.Connection | asyncpg.Pool) -> dict[str, Newest]:
    """Of every currency that has rates but the euro, the last one."""
    rows = await connection.fetch(_SQL["newest"])
    return {row["currency"]: Newest(row["published"], row["effective_from"]) for row in rows}


async def read(connection: asyncpg.Connection | asyncpg.Pool) -> ExchangeRates:
    """All rates."""
    rows = await connection.fetch(_SQL["read"])
    return ExchangeRates.of(
        (row["currency"], DatedRate(row["effective_from"], row["per_eur"], row["published"])) for row in rows
    )


async def on_day(connection: asyncpg.Connection | asyncpg.Pool, day: date) -> ExchangeRates:
    """Just the rates of one UTC day."""
    rows = await connection.fetch(_SQL["on_day"], day)
    return ExchangeRates.of(
        (row["currency"], DatedRate(row["effective_from"], row["per_eur"], row["published"])) for row in rows
    )


async def count(connection: asyncpg.Connection | asyncpg.Pool) -> int:
    """How many rates there are; they are only ever added."""
    return int(await connection.fetchval(_SQL["count"]))


async def add(
    pool: asyncpg.Pool, currency: str, publications: Iterable[tuple[date, int]], *, first_open_day: date, source: str
) -> int:
    """
    Add what was published of *currency* (day and billionths per euro) since its last rate; how many that were.

    A publication holds from the day after it, but not for days before *first_open_day*, by which nobody has counted
    yet; a currency's first ones hold for its whole past.
    """
    async with pool.acquire() as connection, connection.transaction():
        await lock_catalogue(connection)
        last = (await newest(connection)).get(currency)
        rows = _rows(sorted(publications), last, first_open_day)
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            await connection.execute(_SQL["add"], currency, *columns, source)
            await connection.execute(_CATALOGUE["bump"])
    return len(rows)


def _rows(
    publications: Iterable[tuple[date, int]], last: Newest | None, first_open_day: date
) -> list[tuple[date, int, date]]:
    held: dict[date, tuple[int, date]] = {}
    for published, per_eur in publications:
        day = date.fromordinal(published.toordinal() + 1)
        if last is None:
            held[day if held else EARLIEST] = (per_eur, published)
        elif published > last.published:
            # Of several that came late only the newest counts.
            held[max(day, first_open_day, last.effective_from)] = (per_eur, published)
    if last is not None:
        held.pop(last.effective_from, None)  # a day that has its rate keeps it
    return [(day, per_eur, published) for day, (per_eur, published) in sorted(held.items())]
