"""The export of a month's ledger: rows a second, and the most memory that the gateway takes, beside a bare COPY."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

from bench import month
from bench.stack import Stack
from budget_bus.local.child import Child

_COPY = "SELECT * FROM ledger ORDER BY occurred_at, event_id"
# What a COPY holds in a client's memory is one message; a ratio needs a number.
_COPY_MIB = 1.0


async def rounds(stack: Stack, rows: int) -> AsyncIterator[dict[str, float]]:
    """The floor is COPY TO of the same rows in the same order, over a socket; ours is the CSV over HTTP."""
    database_url = await month.fill(stack, rows)
    connection = await asyncpg.connect(database_url)
    try:
        began = time.perf_counter()
        await connection.copy_from_query(_COPY, output=_nowhere, format="csv", timeout=600)
        yield {"exported_per_second": rows / (time.perf_counter() - began), "export_mib": _COPY_MIB}
    finally:
        await connection.close()
    async with month.gateway(stack, database_url) as (child, client):
        await client.get("/api/reports/summary")
        before, began, lines = _peak_mib(child), time.perf_counter(), 0
        span = {"start": "2000-01-01T00:00:00Z", "end": "2199-01-01T00:00:00Z"}
        async with client.stream("GET", "/api/reports/export", params=span) as response:
            async for chunk in response.raise_for_status().aiter_bytes():
                lines += chunk.count(b"\n")
        if lines != rows + 1:
            raise RuntimeError(f"the export has {lines} lines for {rows} rows")
        took = time.perf_counter() - began
        yield {"exported_per_second": rows / took, "export_mib": max(1.0, _peak_mib(child) - before)}


async def _nowhere(_data: bytes) -> None:
    await asyncio.sleep(0)


def _peak_mib(child: Child) -> float:
    status = Path(f"/proc/{child.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
