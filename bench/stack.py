"""PostgreSQL and Apache Kafka for one run of the benchmarks, and the processes that are measured on them."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from budget_bus.errors import BudgetUnavailable
from budget_bus.local.child import Child, Command, ended, last_lines, spawn, start
from budget_bus.local.jars import KAFKA_VERSION
from budget_bus.local.kafka import REQUIRE, Configured, resolve
from budget_bus.local.postgres import Postgres, open_postgres
from budget_bus.producers.topics import apply_topics
from budget_bus.settings import Settings, load_settings
from budget_bus.store.migrate import migrate

ROOT = Path(__file__).parents[1]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stack:
    """A running database server and broker. Every round gets a database and topics (with *prefix*) of its own."""

    postgres: Postgres
    bootstrap_servers: str
    broker: str
    directory: Path
    prefix: str

    async def new_database(self, *, migrated: bool) -> str:
        """The URL of a fresh database, with our schema or empty."""
        name = f"bench_{secrets.token_hex(4)}"
        connection = await asyncpg.connect(self.postgres.url)
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
        if migrated:
            await migrate(self.postgres.url_of(name))
        return self.postgres.url_of(name)

    async def new_topics(self, floor: Mapping[str, int]) -> Stack:
        """This stack with topics that nobody has read: ours, and those of the floors by name and partitions."""
        fresh = replace(self, prefix=f"bench-{secrets.token_hex(3)}.")
        await apply_topics(fresh.settings(fresh.postgres.url))
        admin = AIOKafkaAdminClient(bootstrap_servers=fresh.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(fresh.prefix + name, parts, 1) for name, parts in floor.items()])
            async with asyncio.timeout(30):
                while not all(_is_led(topic) for topic in await admin.describe_topics()):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.05)
        finally:
            await admin.close()
        return fresh

    def settings(self, database_url: str) -> Settings:
        return load_settings(self._settings(database_url, "bench"), env_file=Path(os.devnull))

    @asynccontextmanager
    async def role(self, name: str, database_url: str, **settings: str) -> AsyncIterator[Child]:
        """One of our roles as a process, as an operator starts it, with further *settings*."""
        command = ("budget_bus.cli", "serve", name)
        async with self._process(name, command, {**self._settings(database_url, f"{name}-0"), **settings}) as child:
            yield child

    @asynccontextmanager
    async def floor(self, module: str, *arguments: str) -> AsyncIterator[Child]:
        """One of our floors as a process."""
        async with self._process(module, (f"bench.{module}", *arguments), {}) as child:
            yield child

    @asynccontextmanager
    async def _process(self, name: str, module: tuple[str, ...], extra: Mapping[str, str]) -> AsyncIterator[Child]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("BUDGET_")}
        # Its own folder, so that no .env.budget of whoever measures has a say.
        command = Command(
            (sys.executable, "-m", *module),
            env={**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **extra},
            cwd=self.directory,
        )
        child = await spawn(name, command, self.directory / f"{name}.{secrets.token_hex(3)}.log")
        try:
            yield child
        finally:
            await child.stop(10)

    def _settings(self, database_url: str, instance: str) -> dict[str, str]:
        return {
            "BUDGET_DATABASE_URL": database_url,
            "BUDGET_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "BUDGET_TOPIC_PREFIX": self.prefix,
            "BUDGET_INSTANCE": instance,
            "BUDGET_LOG_LEVEL": "WARNING",
        }


@asynccontextmanager
async def running_stack() -> AsyncIterator[Stack]:
    """
    Start a durable PostgreSQL and Apache Kafka in a folder that goes away with them.

    Raises:
        ConfigError: there is no Java for Apache Kafka; the trial broker would not be a measure.
    """
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(_directory())
        broker = await resolve(directory, configured=None, environ={**os.environ, REQUIRE: "1"}, say=print)
        assert not isinstance(broker, Configured)  # noqa: S101 - none was configured
        postgres = open_postgres(directory)
        for part in (postgres, broker):
            child = await start(part, directory / f"{part.name}.log")
            stack.push_async_callback(child.stop, 10)
        named = f"Apache Kafka {KAFKA_VERSION}" if broker.kind == "apache" else broker.kind
        yield Stack(postgres, broker.bootstrap_servers, named, directory, prefix="")


def _is_led(topic: Mapping[str, Any]) -> bool:
    return all(part["error_code"] == 0 and part["leader"] >= 0 for part in topic["partitions"])


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="budget-bench-", ignore_cleanup_errors=True) as name:
        # PostgreSQL refuses to run as root, and its other account must get in.
        Path(name).chmod(0o755)
        yield Path(name)


async def unless_it_dies(child: Child, work: Awaitable[T], *, patience_s: float) -> T:
    """
    Await *work*.

    Raises:
        BudgetUnavailable: *child* died first, or *patience_s* ran out; with the end of its log.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(child.wait())
    try:
        await asyncio.wait({task, gone}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        why = ended(gone.result()) if gone.done() else f"did not finish within {patience_s:g} s"
        raise _failed(child, why)
    finally:
        for waiting in (task, gone):
            waiting.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def finished(child: Child, *, patience_s: float) -> None:
    """
    Wait until *child* has done its work.

    Raises:
        BudgetUnavailable: it failed or did not finish in time; with the end of its log.
    """
    try:
        code = await asyncio.wait_for(child.wait(), patience_s)
        why = ended(code) if code else ""
    except TimeoutError:
        why = f"did not finish within {patience_s:g} s"
    if why:
        raise _failed(child, why)


def _failed(child: Child, why: str) -> BudgetUnavailable:
    return BudgetUnavailable("\n    ".join([f"{child.name} {why}; its log ends:", *last_lines(child.log, 15)]))
