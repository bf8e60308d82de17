"""A report of a month over HTTP, beside the bare sums of the same rollups."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg

from bench import month
from bench.stack import Stack

_ASKED = 15
_SUMS = """
SELECT date_trunc('day', bucket_start, 'UTC'), component, sum(requests), sum(input_tokens), sum(output_tokens),
    sum(cost_nanos)
FROM rollup WHERE bucket_start >= now() - interval '30 days' GROUP BY 1, 2
"""


async def rounds(stack: Stack, rows: int) -> AsyncIterator[dict[str, float]]:
    """
    The floor is one statement that sums the rollups by day and component; ours is the whole report by component, with
    savings, contexts and budgets, as JSON. Milliseconds, median.
    """
    database_url = await month.fill(stack, rows)
    connection = await asyncpg.connect(database_url)
    try:
        yield {"report_ms": await _median(lambda: connection.fetch(_SUMS))}
    finally:
        await connection.close()
    async with month.gateway(stack, database_url) as (_, client):

        async def ask() -> None:
            response = await client.get("/api/reports/summary", params={"days": 30, "group_by": "component"})
            counted = response.raise_for_status().json()["totals"]["requests"]
            # Of the first seconds some lie more than 30 days back by now.
            if not 0.9 * rows <= counted <= rows:
                raise RuntimeError(f"the report counts {counted} of {rows} calls")

        yield {"report_ms": await _median(ask)}


async def _median(ask: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(_ASKED):
        began = time.perf_counter()
        await ask()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)
