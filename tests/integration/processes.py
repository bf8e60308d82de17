"""
The roles as processes of their own, on a database and topics of their own; killed with -9 and started anew.

installation(...)  makes the database and the topics, and ends every process when its body is left
Roles.start/kill   one process by its name; the same name again is its next life
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from budget_bus.local.child import Child, Command, ended, last_lines, spawn
from budget_bus.producers.topics import apply_topics
from budget_bus.settings import Settings, load_settings
from budget_bus.store.migrate import migrate
from budget_bus.store.pool import open_pool
from tests.integration.budget_command import environment

_POLL_S = 0.01


async def until(condition: Callable[[], Awaitable[Any]], unless: asyncio.Event | None = None) -> Any:
    """
    Ask the servers until *condition* holds, and return what it said: nothing tells us when their state changes.

    Returns early once *unless* is set. Fails after a minute.
    """
    async with asyncio.timeout(60):
        while True:
            found = await condition()
            if found or (unless and unless.is_set()):
                return found
            await asyncio.sleep(_POLL_S)


@dataclass(slots=True)
class Roles:
    """Processes of one installation, by name. A name says which role it is: `decider-1` is a decider."""

    settings: Settings
    pool: asyncpg.Pool
    kills: int = 0
    _alive: dict[str, Child] = field(default_factory=dict)
    _lives: dict[str, int] = field(default_factory=dict)

    async def start(self, name: str, **environ: str) -> None:
        """Start `budget serve ROLE` and return at once; it is ready when the books or its port say so."""
        self._lives[name] = self._lives.get(name, 0) + 1
        command = Command(
            (sys.executable, "-m", "budget_bus.cli", "serve", name.partition("-")[0]),
            env={**os.environ, **environment(self.settings), "BUDGET_INSTANCE": self.instance(name), **environ},
            cwd=self.settings.data_dir,
        )
        self._alive[name] = await spawn(name, command, self._log(name))

    def instance(self, name: str) -> str:
        """What the books call the present life of *name*."""
        return f"{name}.{self._lives[name]}"

    async def kill(self, name: str) -> None:
        """End *name* with SIGKILL; fails if it had ended before, for nothing else may end it."""
        child = self._alive.pop(name)
        self._fail_if_ended(child)
        child.signal(signal.SIGKILL)
        assert await child.wait() == -signal.SIGKILL
        self.kills += 1

    async def restart(self, name: str) -> None:
        """Kill *name* and start its next life at once."""
        await self.kill(name)
        await self.start(name)

    async def owners(self, topic: str) -> set[str]:
        """The instances that own partitions of *topic*, the dead ones too until they are replaced."""
        rows = await self.pool.fetch("SELECT DISTINCT owner_id FROM bus_offset WHERE topic = $1", topic)
        return {row["owner_id"] for row in rows}

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Show the end of every process's log when the body fails; when it ends well, every process still runs."""
        try:
            yield
            for child in self._alive.values():
                self._fail_if_ended(child)
        except BaseException:
            for name in self._lives:
                print(f"== {name}", *last_lines(self._log(name), 15), sep="\n")
            raise

    async def end(self) -> None:
        """Kill what is left."""
        for child in self._alive.values():
            child.signal(signal.SIGKILL)
        await asyncio.gather(*(child.wait() for child in self._alive.values()))

    def _fail_if_ended(self, child: Child) -> None:
        code = child.process.returncode
        assert code is None, "\n".join([f"{child.name} {ended(code or 0)} by itself", *last_lines(child.log, 40)])

    def _log(self, name: str) -> Path:
        return self.settings.data_dir / f"{name}.log"


@asynccontextmanager
async def installation(postgres_url: str, kafka: str, directory: Path, **settings: Any) -> AsyncIterator[Roles]:
    """A database and topics of their own, without a process yet."""
    name = f"test_{secrets.token_hex(6)}"
    ours = load_settings(
        {},
        env_file=Path(os.devnull),
        database_url=f"{postgres_url.rsplit('/', 1)[0]}/{name}",
        kafka_bootstrap_servers=kafka,
        topic_prefix=f"t{secrets.token_hex(4)}.",
        data_dir=directory,
        **settings,
    )
    await _execute(postgres_url, f'CREATE DATABASE "{name}"')
    assert ours.database_url is not None
    await migrate(ours.database_url.get_secret_value())
    await apply_topics(ours)
    async with open_pool(ours, size=8) as pool:
        roles = Roles(ours, pool)
        try:
            yield roles
        finally:
            await roles.end()
    await _execute(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
