"""The export's lines, which PostgreSQL writes, beside the same rows written by Python's csv, byte for byte."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from budget_bus.http.export import COLUMNS
from budget_bus.insight.report_formats.cells import spreadsheet_text
from budget_bus.money import format_nanos
from budget_bus.store.export import ledger_csv, ledger_rows
from tests.integration.books import Books, usage
from tests.integration.processes import until

SPAN = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
_COPIED = "INSERT INTO ledger SELECT copy.* FROM ledger l, jsonb_populate_record(l, $1) copy LIMIT 1"
# More than the kernel keeps between PostgreSQL and who does not read.
_MANY = """
INSERT INTO ledger SELECT copy.* FROM ledger l, generate_series(1, 100) n, jsonb_populate_record(l,
    jsonb_build_object('event_id', gen_random_uuid(), 'record_offset', n, 'task_type', repeat('x', 200000))) copy
"""
_WAITING = "SELECT true FROM pg_stat_activity WHERE query LIKE 'COPY%' AND wait_event = 'ClientWrite'"
_LARGEST = 2**63 - 1

NAMES = [
    "a,b",
    'said "x"',
    "'",
    "=1+1",
    "+1",
    "-1",
    "@a",
    "\\.",
    "\\N",
    "NULL",
    "Ünï 漢字 🚀",
    "x=",
    " a ",
    "a;b|c",
    "#",
]
FIELDS = ("component", "provider", "model", "tier", "task_type", "context_id", "user_name", "operation_id")
TAGS = [{"team": "a,b"}, {"b": "2", "a": '"\\/ \u2028é', "longer": ": , "}, {name: name for name in NAMES}]
INSTANTS = [
    "2026-03-10T12:00:00Z",
    "2026-03-10T12:00:00.1Z",
    "2026-03-10T12:00:00.000001Z",
    "2199-12-31T23:59:59.999999Z",
]
NANOS = [0, 1, 10, 999_999_999, 10**9, 1_000_000_001, 120 * 10**9, -3_500_000, -_LARGEST, _LARGEST]


def cell(row: Mapping[str, Any], name: str) -> str:
    if name.endswith("cost"):
        nanos = row[f"{name}_nanos"]
        return "" if nanos is None else format_nanos(nanos)
    value = row[name]
    if isinstance(value, str):
        return spreadsheet_text(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, (dict, bool)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value != {} else ""
    return "" if value is None else str(value)


async def copied(pool: asyncpg.Pool, **fields: Any) -> None:
    """The first row again, but for *fields*."""
    await pool.execute(_COPIED, {"event_id": str(uuid.uuid4()), **fields})


async def written(pool: asyncpg.Pool, **filters: list[str]) -> bytes:
    return b"".join([chunk async for chunk in ledger_csv(pool, *SPAN, filters=filters)])


async def test_the_lines_are_those_that_python_writes(pool: asyncpg.Pool) -> None:
    await Books(pool).settle(usage(tags={"team": "a"}), usage(model="nobody-s-model"))
    for name in NAMES:
        await copied(pool, **dict.fromkeys(FIELDS, name), price_source=name)
    for tags in TAGS:
        await copied(pool, tags=tags)
    for at in INSTANTS:
        await copied(pool, occurred_at=at, accounted_at=at, recorded_at=at)
    for nanos in NANOS:
        costs = ("cost_nanos", "input_cost_nanos", "output_cost_nanos", "reported_cost_nanos")
        await copied(pool, **dict.fromkeys(costs, nanos), price_status="priced", reported_currency="EUR")
    await copied(pool, request_id=str(uuid.uuid4()), late=True, unreserved=True, cache_read_input_tokens=_LARGEST)
    out = io.StringIO()
    rows = [row async for page in ledger_rows(pool, *SPAN, filters={}) for row in page]
    csv.writer(out, lineterminator="\n").writerows([cell(row, name) for name in COLUMNS] for row in rows)
    assert (await written(pool)).decode().splitlines() == out.getvalue().splitlines()
    assert (await written(pool)) == out.getvalue().encode()


@pytest.mark.parametrize("name", ["x\n; DELETE FROM ledger; --", "'); DELETE FROM ledger; --", "$1 \\' {} \" */"])
async def test_what_a_caller_sends_stays_a_value_within_the_copy(pool: asyncpg.Pool, name: str) -> None:
    await Books(pool).settle(usage())
    await copied(pool, model=name)
    for field in ("component", "provider"):
        assert await written(pool, **{field: [name]}) == b""
    assert len([*csv.reader(io.StringIO((await written(pool, model=[name])).decode(), newline=""))]) == 1
    assert await pool.fetchval("SELECT count(*) FROM ledger") == 2


async def test_who_stops_reading_in_the_middle_ends_the_copy(pool: asyncpg.Pool) -> None:
    await Books(pool).settle(usage())
    await pool.execute(_MANY)
    for _ in range(2 * pool.get_max_size()):
        lines = ledger_csv(pool, *SPAN, filters={})
        assert await anext(lines)
        await until(lambda: pool.fetchval(_WAITING))
        async with asyncio.timeout(10):
            await lines.aclose()
        await until(lambda: pool.fetchval(f"SELECT NOT EXISTS ({_WAITING})"))
