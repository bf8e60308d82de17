"""
Prices that operators have set: changed as limits are, under the exclusive catalogue lock, so that no batch is under
way with the old ones. What a rate means is the caller's to know; here it is JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg

from budget_bus.errors import NotFound
from budget_bus.store.changes import Noted, note
from budget_bus.store.fence import lock_catalogue
from budget_bus.store.sql import queries

_SQL = queries("prices")
_CATALOGUE = queries("catalogue")


class StoredPrice(NamedTuple):
    """One row; *rates* are as the migration says, in picos."""

    provider: str
    model: str
    service_tier: str
    effective_from: datetime
    currency: str
    rates: Mapping[str, Any]
    actor: str
    set_at: datetime


async def own_prices(connection: asyncpg.Connection | asyncpg.Pool) -> list[StoredPrice]:
    """All of them, those of a model in the order in which they hold."""
    return [StoredPrice(*row) for row in await connection.fetch(_SQL["own"])]


async def set_price(
    pool: asyncpg.Pool,
    provider: str,
    model: str,
    rates: Mapping[str, Any],
    *,
    effective_from: datetime,
    actor: str,
    service_tier: str = "standard",
    currency: str = "USD",
) -> bool:
    """
    Set what a model of a stored provider name costs from an instant on, with its `budget.changes` fact.

    Returns:
        Whether that changed anything; setting it to what it is writes nothing.
    """
    key = (provider, model, service_tier, effective_from)
    async with pool.acquire() as connection, connection.transaction():
        await lock_catalogue(connection)
        row = await connection.fetchrow(_SQL["one"], *key)
        before = StoredPrice(*row) if row else None
        if before and (before.currency, before.rates) == (currency, rates):
            return False
        await connection.execute(_SQL["set"], *key, currency, rates, actor)
        after = StoredPrice(*await connection.fetchrow(_SQL["one"], *key))
        await audit(connection, before and _fact(before), _fact(after), actor)
        return True


async def remove_prices(
    pool: asyncpg.Pool,
    provider: str,
    model: str,
    *,
    actor: str,
    service_tier: str | None = None,
    effective_from: datetime | None = None,
) -> list[StoredPrice]:
    """
    Take back what was set, so that the price data holds again; one tier, one date, or all of a model.

    Raises:
        NotFound: nothing was set there.
    """
    async with pool.acquire() as connection, connection.transaction():
        await lock_catalogue(connection)
        rows = await connection.fetch(_SQL["remove"], provider, model, service_tier, effective_from)
        if not rows:
            raise NotFound(f"no price of {provider}/{model} was set; `budget prices list --own` shows those that were")
        removed = [StoredPrice(*row) for row in rows]
        for one in removed:
            await audit(connection, _fact(one), None, actor)
        return removed


async def audit(connection: asyncpg.Connection, before: Any, after: Any, actor: str) -> None:
    """Bump the catalogue's version and tell of a changed price; the transaction has the catalogue's lock alone."""
    await connection.execute(_CATALOGUE["bump"])
    key = "/".join(str((after or before).get(name, "")) for name in ("provider", "model"))
    await note(connection, Noted("price", before, after, key), actor=actor, at=datetime.now(UTC))


def _fact(price: StoredPrice) -> dict[str, Any]:
    names: Sequence[str] = ("provider", "model", "service_tier", "effective_from", "currency", "rates")
    fact = {name: getattr(price, name) for name in names}
    return fact | {"effective_from": price.effective_from.isoformat().replace("+00:00", "Z")}
