"""The sums of a report: usage in steps of time and groups, with what the cache saved, and the contexts at work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from budget_bus.insight.cache_savings import with_savings
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.providers.prices import PriceBook
from budget_bus.store import reports
from budget_bus.store.reports import BinnedSum, Contexts


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is about: `[start, end)` in steps that begin at *bins*, of which the first begins at *start*."""

    start: datetime
    end: datetime
    bins: Sequence[datetime]
    group_by: Sequence[str]
    filters: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Found:
    """The sums, and the contexts of each group by its values; those of all under the empty key."""

    sums: list[BinnedSum]
    contexts: dict[tuple[str | None, ...], Contexts]


async def gather(pool: asyncpg.Pool, asked: Asked, prices: PriceBook) -> Found:
    """
    Read what is asked for from the rollups.

    Raises:
        Rejected: it would be more than a report can hold.
    """

    async def series(bins: Sequence[datetime], filters: Mapping[str, Sequence[str]]) -> list[BinnedSum]:
        wanted = {**asked.filters, **filters}
        return await reports.series(pool, asked.start, asked.end, bins=bins, group_by=asked.group_by, filters=wanted)

    sums, contexts = await asyncio.gather(
        series(asked.bins, {}),
        reports.contexts(
            pool, asked.start, asked.end, group_by=asked.group_by, filters=asked.filters, currency=PRICE_CURRENCY
        ),
    )
    return Found(await with_savings(sums, asked.bins, asked.end, prices, series), contexts)
