"""The price book of a transaction: what an operator has set is read again when the catalogue's version is a new one."""

from __future__ import annotations

import asyncpg

from budget_bus.providers.own import OwnPrice, price_from
from budget_bus.providers.prices import PriceBook
from budget_bus.store.catalogue import catalogue_version
from budget_bus.store.prices import StoredPrice, own_prices


async def refresh_prices(connection: asyncpg.Connection, prices: PriceBook, version: int | None = None) -> bool:
    """
    Make *prices* those of the catalogue's *version* (asked for when None).

    Whoever books by them calls it in the transaction that does, after `fence.enter`.

    Returns:
        Whether they are others than before: what was priced with them must be priced again.
    """
    if version is None:
        version = await catalogue_version(connection)
    if prices.version == version:
        return False
    return prices.use([_own(stored) for stored in await own_prices(connection)], version)


def _own(stored: StoredPrice) -> OwnPrice:
    since = stored.effective_from.isoformat().replace("+00:00", "Z")
    price = price_from(stored.rates, currency=stored.currency, source=f"set by {stored.actor}, from {since}")
    return OwnPrice(stored.provider, stored.model, stored.service_tier, stored.effective_from, price)
