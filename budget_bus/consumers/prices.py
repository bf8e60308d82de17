"""The price book of a transaction: what an operator has set is read again when the catalogue's version is a new one."""

from __future__ import annotations

import asyncpg

from budget_bus.providers.prices import PriceBook


async def refresh_prices(connection: asyncpg.Connection, prices: PriceBook, version: int) -> bool:
    """
    Make *prices* those of the catalogue's *version*; called in the transaction that uses them, after `fence.enter`.

    Returns:
        Whether they are others than before: what was priced with them must be priced again.
    """
    return False
