"""The price book of a transaction: what was set, and newer data, is read again with each new catalogue version."""

from __future__ import annotations

import asyncpg

from budget_bus.providers import data
from budget_bus.providers.own import OwnPrice, price_from
from budget_bus.providers.prices import PriceBook
from budget_bus.store import price_data
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
    if await price_data.current_id(connection) != data.data_id():
        kept = await price_data.current(connection)
        if kept is None:
            data.use(None, 0)
        else:
            data.use(kept.document, kept.data_id, f"price data {kept.data_id} of {kept.fetched_at:%Y-%m-%d}")
    return prices.use([_own(stored) for stored in await own_prices(connection)], version)


def _own(stored: StoredPrice) -> OwnPrice:
    since = stored.effective_from.isoformat().replace("+00:00", "Z")
    price = price_from(stored.rates, currency=stored.currency, source=f"set by {stored.actor}, from {since}")
    return OwnPrice(stored.provider, stored.model, stored.service_tier, stored.effective_from, price)
