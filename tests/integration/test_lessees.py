"""Eight lessees, killed at random, never admit more than a hard limit together."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from budget_bus.policy.budget import Unit
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings
from budget_bus.store.admin import check_books
from tests.integration.books import Books

ROOT = Path(__file__).parents[2]
LESSEES, KILLS, KILL_EVERY_S = 8, 8, 0.3
CALLS = 200_000
INPUT_NANOS, OUTPUT_NANOS = 2_500, 10_000  # of one token of gpt-4o
OPEN_LEASES = "SELECT count(*) FROM hold WHERE lease AND state = 'open'"
# What a call takes on average, so that money, tokens and calls run out at about the same time.
LIMITS = {Unit.COST: CALLS * 4_500_000, Unit.TOKENS: CALLS * 1_350, Unit.REQUESTS: CALLS}


async def test_eight_lessees_killed_at_random_never_admit_more_than_the_limit(
    kafka: str, settings: Settings, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    await apply_topics(settings)
    books = Books(pool)
    budgets = {unit: await books.limit(limit, name=unit.value, unit=unit) for unit, limit in LIMITS.items()}
    async with settler(settings), decider(settings):
        assert await _exhaust(settings, tmp_path) == KILLS
        # Leases end with their time; those of the dead stay charged, as nobody knows what they admitted.
        async with asyncio.timeout(30):
            while await pool.fetchval(OPEN_LEASES):  # noqa: ASYNC110 - what is awaited is in the books
                await asyncio.sleep(0.1)
        admitted = _admitted(tmp_path)
        for unit, budget in budgets.items():
            charged = await books.balance(budget)
            assert admitted[unit] <= sum(charged) <= LIMITS[unit], (unit, admitted, charged)
        assert max(admitted[unit] / limit for unit, limit in LIMITS.items()) > 0.8, "the limit was not reached"
        await books.assert_exact()
        async with pool.acquire() as connection:
            assert (await check_books(connection, progress=lambda *_: None)).differences == ()


async def _exhaust(settings: Settings, folder: Path) -> int:
    """Run the lessees and kill one of them now and then, until the limit is used up; how many were killed at work."""
    chance = random.Random(8)  # the same choices every time
    files = (folder / f"{number}.log" for number in itertools.count())
    kills = 0
    async with _running() as lessees:
        for _ in range(LESSEES):
            await lessees.start(next(files), settings)
        while kills < KILLS and lessees.alive():
            await asyncio.sleep(KILL_EVERY_S * chance.uniform(0.5, 1.5))
            if at_work := [file for file in lessees.alive() if file.exists() and file.stat().st_size]:
                await lessees.kill(chance.choice(at_work))
                kills += 1
                await lessees.start(next(files), settings)
        await asyncio.wait_for(lessees.finished(), 60)
    return kills


@dataclass(slots=True)
class Lessees:
    """The lessees by their log files."""

    processes: dict[Path, Process] = field(default_factory=dict)
    killed: set[Path] = field(default_factory=set)

    async def start(self, file: Path, settings: Settings) -> None:
        assert settings.kafka_bootstrap_servers
        self.processes[file] = await asyncio.create_subprocess_exec(
            *(sys.executable, str(Path(__file__).with_name("lessee_process.py"))),
            *(settings.kafka_bootstrap_servers, settings.topic_prefix, str(file)),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def alive(self) -> list[Path]:
        return [file for file, process in self.processes.items() if process.returncode is None]

    async def kill(self, file: Path) -> None:
        self.processes[file].kill()
        await self.processes[file].wait()
        self.killed.add(file)

    async def finished(self) -> None:
        """Wait until all others were denied; each has ended well."""
        for file, process in self.processes.items():
            assert await process.wait() == 0 or file in self.killed, file


@asynccontextmanager
async def _running() -> AsyncIterator[Lessees]:
    lessees = Lessees()
    try:
        yield lessees
    finally:
        for file in lessees.alive():
            await lessees.kill(file)


def _admitted(folder: Path) -> dict[Unit, int]:
    """What all lessees have admitted, the killed ones too."""
    total = dict.fromkeys(Unit, 0)
    for file in folder.glob("*.log"):
        # A line that a kill has cut in two was not written whole, and its call was not made.
        for line in file.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                sides = [int(word) for word in line.split()]
                total[Unit.COST] += sides[0] * INPUT_NANOS + sides[1] * OUTPUT_NANOS
                total[Unit.TOKENS] += sum(sides)
                total[Unit.REQUESTS] += 1
    return total
