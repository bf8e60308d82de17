"""An outage loses nothing: components that share a spool, while the gateway goes and comes, on the real books."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from budget_bus.client import AsyncBudgetClient, BudgetClient
from budget_bus.errors import BudgetUnavailable
from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings
from tests.integration.processes import until

ROOT = Path(__file__).parents[2]
CALL: dict[str, Any] = {"component": "rhetor", "provider": "anthropic", "model": "claude-3-opus"}
COUNT = 40


@pytest.fixture
async def listening(kafka: str, settings: Settings) -> Settings:
    """Settings of a gateway that does not listen yet."""
    await apply_topics(settings)
    return settings.model_copy(update={"port": free_port(), "check_timeout_ms": 30_000})


class Component:
    """A process that records; `told` has the tokens of each event that it was told is recorded or kept."""

    def __init__(self) -> None:
        self.told: dict[UUID, int] = {}
        self.statuses: list[str] = []
        self._moved = asyncio.Event()

    async def run(self, settings: Settings, spool: Path) -> int:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.spooling_process", str(settings.port), str(spool), str(COUNT)),
            cwd=settings.data_dir,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            event_id, tokens, status = line.decode().split()
            self.told[UUID(event_id)] = int(tokens)
            self.statuses.append(status)
            self._moved.set()
        return await self.process.wait()

    async def until(self, count: int) -> None:
        """Wait until it was told of so many."""
        async with asyncio.timeout(60):
            while len(self.told) < count:
                self._moved.clear()
                await self._moved.wait()


@asynccontextmanager
async def components(settings: Settings, spool: Path, count: int) -> AsyncIterator[list[Component]]:
    """Some components, until they have ended by themselves."""
    found = [Component() for _ in range(count)]
    async with asyncio.TaskGroup() as tasks:
        for component in found:
            tasks.create_task(component.run(settings, spool))
        try:
            yield found
        except BaseException:
            for component in found:
                if component.process.returncode is None:
                    component.process.kill()
            raise


async def test_an_outage_loses_nothing_of_several_processes_and_threads(
    listening: Settings, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    threads: dict[UUID, int] = {}

    def record(first: int) -> None:
        with BudgetClient(port=listening.port, timeout=10, spool=spool) as client:
            for tokens in range(first, first + 15):
                told = client.record_usage(**CALL, input_tokens=tokens, output_tokens=1)
                threads[UUID(told["event_id"])] = tokens

    async with settler(listening), decider(listening), components(listening, spool, 3) as found:
        killed, *others = found
        working = [asyncio.create_task(asyncio.to_thread(record, first)) for first in (1000, 2000)]
        await asyncio.gather(*(component.until(5) for component in found))  # into the spool, for nobody listens yet
        async with gateway(listening):
            await asyncio.gather(*(component.until(20) for component in found))
        await killed.until(len(killed.told) + 3)
        killed.process.send_signal(signal.SIGKILL)
        await asyncio.gather(*(component.until(27) for component in others))
        async with gateway(listening):
            await asyncio.gather(*(component.until(COUNT) for component in others), *working)
            async with AsyncBudgetClient(port=listening.port, spool=spool) as client:
                await client.flush()
            told = {**threads, **killed.told, **others[0].told, **others[1].told}

            async def counted() -> bool:
                return bool(await pool.fetchval("SELECT count(*) FROM ledger") >= len(told))

            await until(counted)

    assert all({"spooled", "recorded"} <= set(component.statuses) for component in found)
    assert len(told) == 30 + 2 * COUNT + len(killed.told)
    assert spool.read_bytes() == b""
    assert "spool.rejected" not in os.listdir(spool.parent)
    rows = {row["event_id"]: row["input_tokens"] for row in await pool.fetch("SELECT * FROM ledger")}
    # The one that it was killed over may be there without its having been told.
    unknown = rows.keys() - told.keys()
    assert {event_id: rows[event_id] for event_id in told} == told
    assert len(unknown) <= 1
    summed = await pool.fetchrow("SELECT count(*) AS events, sum(input_tokens) AS tokens FROM ledger")
    assert summed["events"] == len(told) + len(unknown)
    assert summed["tokens"] == sum(told.values()) + sum(rows[event_id] for event_id in unknown)


async def test_a_hold_is_settled_by_what_was_spooled(listening: Settings, pool: asyncpg.Pool, tmp_path: Path) -> None:
    async def settled() -> bool:
        return bool(await pool.fetchval("SELECT state = 'settled' FROM hold"))

    async with (
        settler(listening),
        decider(listening),
        AsyncBudgetClient(port=listening.port, timeout=30, spool=tmp_path / "spool") as client,
    ):
        async with gateway(listening):
            call = client.guard(**CALL, input_tokens=1000, max_output_tokens=100)
            await call.__aenter__()
        told = await call.settle(input_tokens=1000, output_tokens=50)
        assert (told["status"], told["spooled"], told["total_cost"]) == ("spooled", True, None)
        with pytest.raises(BudgetUnavailable):
            await client.flush()
        async with gateway(listening):
            assert await client.flush() == 1
            assert await client.flush() == 0
            await until(settled)
    row = await pool.fetchrow("SELECT event_id, input_tokens, output_tokens FROM ledger")
    assert (str(row["event_id"]), row["input_tokens"], row["output_tokens"]) == (told["event_id"], 1000, 50)


async def test_events_that_come_twice_are_counted_once(listening: Settings, pool: asyncpg.Pool, tmp_path: Path) -> None:
    """As after a crash between the acceptance and the removal; and what is refused blocks nothing."""
    spool, copy = tmp_path / "spool", tmp_path / "copy"
    async with settler(listening), AsyncBudgetClient(port=listening.port, timeout=0.3, spool=spool) as client:
        for tokens in (1, 2, 3):
            await client.record_usage(**CALL, input_tokens=tokens, output_tokens=1)
        await client.record_usage(**{**CALL, "model": ""}, input_tokens=1, output_tokens=1)
        copy.write_bytes(spool.read_bytes())
        async with (
            gateway(listening),
            AsyncBudgetClient(port=listening.port, timeout=30, spool=spool) as patient,
            AsyncBudgetClient(port=listening.port, timeout=30, spool=copy) as again,
        ):
            assert (await patient.flush(), await again.flush()) == (3, 3)
            await again.record_usage(**CALL, input_tokens=4, output_tokens=1)  # in the books, so those before it are
    assert await pool.fetchval("SELECT array_agg(input_tokens ORDER BY input_tokens) FROM ledger") == [1, 2, 3, 4]
    assert "model" in spool.with_name("spool.rejected").read_text()
