"""Sums over time for reports: from the rollups, and from the ledger only at the edges of the span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import asyncpg

from budget_bus.errors import Rejected
from budget_bus.store.reads import UsageSum, spans
from budget_bus.store.sql import queries

_SQL = queries("reports")

GROUPS = ("component", "provider", "model", "tier", "task_type", "user", "context_id")
"""All that a report can be grouped and filtered by."""

MAX_ROWS = 100_000
_ALWAYS = ("component", "provider", "model")


@dataclass(frozen=True, slots=True)
class BinnedSum(UsageSum):
    """
    Sums of one group in one bin and currency; `bin` counts from 0, `key` has every field that was grouped by.

    `cache_savings_nanos` is not in the books: who knows the prices fills it in.
    """

    bin: int
    unpriced_tokens: int
    cache_read_input_tokens: int = 0
    late_requests: int = 0
    late_cost_nanos: int = 0
    restated_nanos: int = 0
    cache_savings_nanos: int = 0


class Contexts(NamedTuple):
    """How many contexts were at work, and what their calls cost in the currency that was asked for."""

    at_work: int
    cost_nanos: int


async def series(
    pool: asyncpg.Pool,
    start: datetime,
    end: datetime,
    *,
    bins: Sequence[datetime],
    group_by: Sequence[str],
    filters: Mapping[str, Sequence[str]],
) -> list[BinnedSum]:
    """
    Sums of the events that occurred in `[start, end)`, by component, provider, model and *group_by*, in the bins that
    begin at *bins*, of which the first begins at *start*.

    Raises:
        Rejected: there are more than MAX_ROWS of them.
    """
    names = [*_ALWAYS, *(name for name in GROUPS if name in group_by and name not in _ALWAYS)]
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute(_SQL["for_many_rows"])
        rows = await connection.fetch(
            _SQL["series"],
            *await spans(connection, start, end, by_hour=all(_on_the_hour(at) for at in bins[1:])),
            list(bins),
            *(name in group_by for name in GROUPS if name not in _ALWAYS),
            *_picked(filters),
            MAX_ROWS + 1,
        )
    if len(rows) > MAX_ROWS:
        raise Rejected(
            f"the report would have more than {MAX_ROWS:,} sums: ask for fewer days, a longer period, or filter it"
        )
    return [
        BinnedSum(
            {name: row[name] or None for name in names},
            row["currency"],
            int(row["requests"]),
            int(row["input_tokens"]),
            int(row["output_tokens"]),
            int(row["cost_nanos"]),
            int(row["unpriced_requests"]),
            row["bin"] - 1,
            int(row["unpriced_tokens"]),
            int(row["cache_read_input_tokens"]),
            int(row["late_requests"]),
            int(row["late_cost_nanos"]),
            int(row["restated_nanos"]),
        )
        for row in rows
    ]


async def contexts(
    pool: asyncpg.Pool,
    start: datetime,
    end: datetime,
    *,
    group_by: Sequence[str],
    filters: Mapping[str, Sequence[str]],
    currency: str,
) -> dict[tuple[str | None, ...], Contexts]:
    """The contexts of each group, by its values in the order of *group_by*; those of all under the empty key."""
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        await connection.execute(_SQL["for_many_rows"])
        rows = await connection.fetch(
            _SQL["contexts"],
            *await spans(connection, start, end),
            *(name in group_by for name in GROUPS),
            *_picked(filters),
            currency,
        )
    return {
        () if row["of_all"] else tuple(row[name] or None for name in group_by): Contexts(
            row["contexts"], int(row["cost_nanos"])
        )
        for row in rows
    }


async def unconfirmed(pool: asyncpg.Pool, filters: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, int]]:
    """Currency -> how many holds are unconfirmed, and the nanos that are charged for them."""
    picked = [list(filters[name]) if filters.get(name) else None for name in _ALWAYS]
    rows = await pool.fetch(_SQL["unconfirmed"], *picked)
    return {row["currency"]: (row["holds"], int(row["cost_nanos"])) for row in rows}


def _on_the_hour(at: datetime) -> bool:
    """Of UTC: days begin at half past in some time zones."""
    return at.timestamp() % 3600 == 0


def _picked(filters: Mapping[str, Sequence[str]]) -> list[list[str] | None]:
    return [list(filters[name]) if filters.get(name) else None for name in GROUPS]
