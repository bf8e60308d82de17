"""An outage of the gateway, seen by clients with a spool: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import asyncpg

from budget_bus.client import AsyncBudgetClient
from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import settler
from budget_bus.settings import Settings

CALL: dict[str, Any] = {"provider": "openai", "model": "gpt-4o", "input_tokens": 1000, "output_tokens": 100}
_PROCESS = """
import sys
from budget.client import BudgetClient
client = BudgetClient(host="127.0.0.1", port=int(sys.argv[1]), spool=sys.argv[2])
for n in range(50):
    assert client.record_usage(provider="openai", model="gpt-4o", component=sys.argv[3], input_tokens=1000,
                               output_tokens=100)["spooled"]
"""


async def test_an_outage_loses_nothing_and_counts_nothing_twice(
    kafka: str, settings: Settings, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    await apply_topics(settings)
    port, spool = free_port(), tmp_path / "usage.jsonl"
    here = settings.model_copy(update={"host": "127.0.0.1", "port": port})
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROCESS, str(port), str(spool), component),
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        for component in ("rhetor", "codex")
    ]
    assert [await asyncio.wait_for(process.wait(), 60) for process in processes] == [0, 0]
    # As after a crash between the service's answer and our note of it: the same is sent once more.
    before = spool.read_bytes()
    async with settler(settings), gateway(here), AsyncBudgetClient(host="127.0.0.1", port=port, spool=spool) as client:
        assert await client.flush() == 100
        spool.write_bytes(before)
        recorded = await client.record_usage(component="ergon", **CALL)
        assert (recorded["status"], recorded["spooled"]) == ("recorded", False)
        assert await client.flush() == 0
        async with asyncio.timeout(30):
            while await pool.fetchval("SELECT count(*) FROM ledger") < 101:
                pass
        # What was sent twice has been read when this is in the ledger, for it lies behind it in each partition.
        for component in ("rhetor", "codex"):
            await client.record_usage(component=component, **CALL)
    rows = await pool.fetch(
        "SELECT component, count(*) AS n, sum(cost_nanos) AS nanos FROM ledger GROUP BY 1 ORDER BY 1"
    )
    assert [(row["component"], row["n"], int(row["nanos"])) for row in rows] == [
        ("codex", 51, 51 * 3_500_000),
        ("ergon", 1, 3_500_000),
        ("rhetor", 51, 51 * 3_500_000),
    ]
