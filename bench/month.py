"""A month in the books, filled by SQL: the ledger's rows and their rollups, as events of real cardinality would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx2

from bench.stack import Stack
from budget_bus.local.child import Child
from budget_bus.local.ports import free_port
from budget_bus.store.sql import queries

_PATIENCE_S = 120
# 12 components, 40 contexts, each of one component and user, and 2 models for each component: at most 80 rows of
# rollups in a quarter of an hour. A third of the calls reads from a cache.
_LEDGER = """
INSERT INTO ledger (event_id, digest, occurred_at, accounted_at, component, provider, model, tier, service_tier,
    task_type, context_id, user_name, tags, input_tokens, output_tokens, cache_read_input_tokens,
    cache_creation_input_tokens, reasoning_output_tokens, input_audio_tokens, output_audio_tokens, token_source,
    cost_nanos, input_cost_nanos, output_cost_nanos, currency, price_status, price_source, late, unreserved, topic,
    part, record_offset)
SELECT uuidv7(at - now()), '\\x00', at, at, 'component-' || context % 12,
    (ARRAY['openai', 'anthropic', 'google'])[1 + (context + model) % 3],
    (ARRAY['gpt-4o', 'claude-sonnet-4-5', 'gemini-2.5-flash'])[1 + (context + model) % 3], 'remote_heavyweight',
    'standard', (ARRAY['chat', 'review'])[1 + model], 'context-' || context, 'user-' || context % 6, '{}',
    1000 + i % 500, 100 + i % 90, CASE WHEN i % 3 = 0 THEN 500 ELSE 0 END, 0, 0, 0, 0, 'provider', 3500000 + i % 1000,
    2500000, 1000000 + i % 1000, 'USD', 'priced', 'bench', false, false, 'bench', 0, i
FROM (SELECT i, i * 7919 % 40 AS context, i / 40 % 2 AS model,
             $2::timestamptz - interval '30 days' + i * (interval '30 days' / $1::bigint) AS at
      FROM generate_series(1, $1::bigint) i) numbered
"""
_ROLLUP = """
INSERT INTO rollup SELECT date_bin('15 minutes', occurred_at, timestamptz '2000-01-01 00:00:00+00'), component,
    provider, model, tier, task_type, user_name, context_id, currency, count(*), sum(input_tokens), sum(output_tokens),
    sum(cost_nanos), 0, 0, sum(cache_read_input_tokens), 0, 0
FROM ledger GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""


async def fill(stack: Stack, rows: int) -> str:
    """A database whose last 30 days have so many events; its address."""
    database_url = await stack.new_database(migrated=True)
    now = datetime.now(UTC)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_LEDGER, rows, now, timeout=3600)
        await connection.execute(_ROLLUP, timeout=3600)
        # As a bookkeeper has done by then.
        await connection.execute(queries("admin")["rebuild_hours"], now - timedelta(days=31), now)
        await connection.execute("VACUUM ANALYZE", timeout=3600)
    finally:
        await connection.close()
    return database_url


@asynccontextmanager
async def gateway(stack: Stack, database_url: str) -> AsyncIterator[tuple[Child, httpx2.AsyncClient]]:
    """A gateway process on that database, and a client of it."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    async with (
        stack.role("gateway", database_url, BUDGET_PORT=str(port)) as child,
        httpx2.AsyncClient(base_url=address, timeout=600) as client,
    ):
        async with asyncio.timeout(_PATIENCE_S):
            while not await _answers(client):  # noqa: ASYNC110 - until it listens; nothing is measured yet
                await asyncio.sleep(0.1)
        yield child, client


async def _answers(client: httpx2.AsyncClient) -> bool:
    try:
        return (await client.get("/health/live")).status_code == 200
    except httpx2.HTTPError:
        return False
