"""Sums over time for reports: from the rollups, and from the ledger only at the edges of the span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from budget_bus.errors import Rejected
from budget_bus.store.reads import GROUPS, UsageSum, whole_buckets
from budget_bus.store.sql import queries

_SQL = queries("reports")

MAX_ROWS = 100_000
_ALWAYS = ("component", "provider", "model")


@dataclass(frozen=True, slots=True)
class BinnedSum(UsageSum):
    """Sums of one group in one bin and currency; `bin` counts from 0, `key` has every field that was grouped by."""

    bin: int
    unpriced_tokens: int


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
    head_end, tail_start = whole_buckets(start, end)
    names = [*_ALWAYS, *(name for name in GROUPS if name in group_by and name not in _ALWAYS)]
    rows = await pool.fetch(
        _SQL["series"],
        start,
        head_end,
        head_end,
        tail_start,
        tail_start,
        end,
        list(bins),
        *(name in group_by for name in GROUPS if name not in _ALWAYS),
        *(list(filters[name]) if filters.get(name) else None for name in GROUPS),
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
        )
        for row in rows
    ]


async def unconfirmed(pool: asyncpg.Pool, filters: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, int]]:
    """Currency -> how many holds are unconfirmed, and the nanos that are charged for them."""
    picked = [list(filters[name]) if filters.get(name) else None for name in _ALWAYS]
    rows = await pool.fetch(_SQL["unconfirmed"], *picked)
    return {row["currency"]: (row["holds"], int(row["cost_nanos"])) for row in rows}
