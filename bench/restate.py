"""Restating: how many ledger rows a second get a corrected price while a settler goes on."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import asyncpg

from bench.load import produce
from bench.settle import set_budgets
from bench.stack import Stack, unless_it_dies
from budget_bus.bookkeeping.restating import Restating, difference
from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.policy.budget import Policy
from budget_bus.providers.prices import PriceBook
from budget_bus.store.admin import check_books, open_connection
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.pool import open_pool
from budget_bus.store.prices import set_price
from budget_bus.store.restatements import Range

SETTLED = 20_000  # events that a settler brings into the books meanwhile
_PATIENCE_S = 1800
_WRONG, _RIGHT = 3_500_000, 1_100_000  # nanos of 1,000 + 100 tokens at the data's price, and at the corrected one
_CORRECTED = {"input": [1_000_000, []], "output": [1_000_000, []]}
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
# Of 30 days and 20 components, in time order as events arrive, with ids as we make them.
_LEDGER = """
INSERT INTO ledger (event_id, digest, occurred_at, accounted_at, component, provider, model, tier, service_tier,
    tags, input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens, reasoning_output_tokens,
    input_audio_tokens, output_audio_tokens, token_source, cost_nanos, input_cost_nanos, output_cost_nanos, currency,
    price_status, price_source, late, unreserved, topic, part, record_offset)
SELECT uuidv7(at - now()), '\\x00', at, at, 'component-' || i % 20, 'openai', 'gpt-4o', 'remote_heavyweight',
    'standard', '{}', 1000, 100, 0, 0, 0, 0, 0, 'provider', 3500000, 2500000, 1000000, 'USD', 'priced', 'bench',
    false, false, 'bench', 0, i
FROM (SELECT i, $2::timestamptz - interval '30 days' + i * (interval '30 days' / $1::bigint) AS at
      FROM generate_series(1, $1::bigint) i) numbered
"""
_ROLLUP = """
INSERT INTO rollup SELECT date_bin('15 minutes', occurred_at, 'epoch'), component, provider, model, tier, '', '', '',
    currency, count(*), sum(input_tokens), sum(output_tokens), sum(cost_nanos), 0, 0
FROM ledger GROUP BY 1, 2, 3, 4, 5, 9
"""


async def floor(stack: Stack, rows: int) -> dict[str, float]:
    """The least: one statement that writes another cost into as many rows, and nothing else."""
    database_url = await stack.new_database(migrated=True)
    await _fill(database_url, rows)
    connection = await asyncpg.connect(database_url)
    try:
        began = time.perf_counter()
        await connection.execute("UPDATE ledger SET cost_nanos = $1", _RIGHT)
        return {"rows_per_second": rows / (time.perf_counter() - began)}
    finally:
        await connection.close()


async def ours(stack: Stack, rows: int) -> dict[str, float]:
    """One restatement of all rows with some budgets to keep, beside a settler process; exact, or it has no speed."""
    database_url = await stack.new_database(migrated=True)
    await _fill(database_url, rows)
    await set_budgets(stack, database_url)
    settings = stack.settings(database_url)
    async with open_pool(settings, size=1) as pool:
        await set_price(pool, "openai", "gpt-4o", _CORRECTED, effective_from=_LONG_AGO, actor="bench")
    async with stack.role("settler", database_url) as child, open_connection(settings) as connection:
        await produce(stack.bootstrap_servers, stack.prefix + USAGE_RECORDED, SETTLED)
        restated = await unless_it_dies(child, _measure(connection, rows), patience_s=_PATIENCE_S)
        await unless_it_dies(child, _settled(connection, rows + SETTLED), patience_s=_PATIENCE_S)
        await _assert_exact(connection, rows)
    return {"rows_per_second": rows / restated}


async def _measure(connection: asyncpg.Connection, rows: int) -> float:
    found = await difference(connection, PriceBook(), Range(), progress=_quiet)
    if sum(one.changed for one in found.values()) < rows:
        raise RuntimeError("the difference names fewer rows than there are")
    work = Restating(
        connection=connection, catalogue=Catalogue(Policy.WARN), prices=PriceBook(), wanted=Range(), actor="bench",
        reason="bench", now=lambda: datetime.now(UTC), progress=_quiet,
    )  # fmt: skip
    began = time.perf_counter()
    await work.run()
    return time.perf_counter() - began


async def _settled(connection: asyncpg.Connection, rows: int) -> None:
    while await connection.fetchval("SELECT count(*) FROM ledger") < rows:  # noqa: ASYNC110 - it is in the books
        await asyncio.sleep(0.1)


async def _assert_exact(connection: asyncpg.Connection, rows: int) -> None:
    wrong = await connection.fetchval("SELECT count(*) FROM ledger WHERE topic = 'bench' AND cost_nanos <> $1", _RIGHT)
    kept = await connection.fetchval("SELECT count(*) FROM restated WHERE cost_nanos = $1", _WRONG)
    found = (await check_books(connection, progress=_quiet)).differences
    if wrong or kept < rows or found:
        raise RuntimeError(f"{wrong} rows are not restated, {kept} old costs are kept, differences: {found[:1]}")


async def _fill(database_url: str, rows: int) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_LEDGER, rows, datetime.now(UTC), timeout=600)
        await connection.execute(_ROLLUP, timeout=600)
        await connection.execute("VACUUM ANALYZE", timeout=600)
    finally:
        await connection.close()


def _quiet(*_: Any) -> None:
    """Progress is not measured."""
