"""Runs a replay: rows stream out of one snapshot, the work is done beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from budget_bus.bookkeeping.restating import tokens_of
from budget_bus.consumers.prices import refresh_prices
from budget_bus.errors import FieldError, Rejected
from budget_bus.insight.replay.costs import Costing, Used
from budget_bus.insight.replay.outcome import Outcome
from budget_bus.insight.replay.proposal import Proposal
from budget_bus.providers.prices import PriceBook
from budget_bus.store import replays
from budget_bus.store.holds import call_of

MAX_ROWS = 1_000_000

Progress = Callable[[int, int], None]  # how many rows of how many are done


async def replay(
    pool: asyncpg.Pool,
    prices: PriceBook,
    *,
    start: datetime,
    end: datetime,
    proposal: Proposal,
    max_rows: int = MAX_ROWS,
    progress: Progress = lambda done, total: None,
) -> Outcome:
    """
    What the calls of `[start, end)`, by the time they occurred, would have come to under *proposal*.

    Raises:
        Rejected: the range has more than *max_rows* rows, or the proposal names a model without a price.
    """
    outcome = Outcome()
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        await refresh_prices(connection, prices)
        total = await replays.count(connection, start, end)
        if total > max_rows:
            raise _too_many(total, max_rows)
        costing, done = Costing(proposal, prices), 0
        async for rows in replays.used(connection, start, end):
            await asyncio.to_thread(_count, outcome, costing, rows)
            done += len(rows)
            progress(done, total)
    return outcome


def _too_many(total: int, most: int) -> Rejected:
    message = f"has {total:,} rows, of which at most {most:,} can be replayed at once; take a shorter range"
    return Rejected("invalid range", [FieldError("start", message)])


def _count(outcome: Outcome, costing: Costing, rows: Sequence[Any]) -> None:
    for row in rows:
        used = used_of(row)
        outcome.count(used, costing.apply(used))


def used_of(row: Any) -> Used:
    """A row of the ledger as an event."""
    return Used(
        call_of(row), row["service_tier"], row["occurred_at"], tokens_of(row), row["cost_nanos"], row["currency"]
    )
