"""`budget export` to a file, on a real gateway: all of it, or an error and nothing of it."""

from __future__ import annotations

import asyncio
import csv
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.settings import Settings
from tests.integration.books import Books, usage
from tests.integration.budget_command import budget, start
from tests.integration.processes import until

ROWS = 600
# Texts that hardly compress, some 8 MB on the wire: more than the kernel keeps between a gateway and who reads slowly,
# so what happens in the middle of it happens before the gateway has written its end.
_ROWS = """
INSERT INTO ledger SELECT copy.* FROM ledger l, generate_series(2, $1) n,
    LATERAL (SELECT string_agg(md5(n::text || m::text), '') AS long FROM generate_series(1, 700) m) text,
    LATERAL jsonb_populate_record(l, jsonb_build_object('event_id', gen_random_uuid(), 'task_type', text.long)) copy
"""
_TAKEN = 100_000  # bytes of an answer after which something happens

Happening = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Wire:
    """Stands between the command and the gateway at *to*; once so much of an answer has passed, something happens."""

    to: int
    happens: Happening
    happened: bool = False
    carrying: list[Any] = field(default_factory=list)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.carrying.append(asyncio.current_task())
        far_reader, far_writer = await self._gateway()
        asking = asyncio.create_task(self._ask(reader, far_writer))
        taken = 0
        try:
            while chunk := await far_reader.read(1 << 14):
                writer.write(chunk)
                await writer.drain()
                taken += len(chunk)
                if taken > _TAKEN and not self.happened:
                    self.happened = True
                    await self.happens(writer)
        except ConnectionError:
            pass
        finally:
            asking.cancel()
            writer.close()
            far_writer.transport.abort()

    async def _gateway(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        near = socket.socket()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # so that the gateway is not far ahead
        near.setblocking(False)
        await asyncio.get_running_loop().sock_connect(near, ("127.0.0.1", self.to))
        return await asyncio.open_connection(sock=near)

    async def _ask(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1 << 16):
            far.write(chunk)


@asynccontextmanager
async def wired(settings: Settings, happens: Happening) -> AsyncIterator[Settings]:
    """The settings with which the command calls the gateway over a wire."""
    wire = Wire(settings.port, happens)
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    async with server:
        yield settings.model_copy(update={"port": server.sockets[0].getsockname()[1]})
        for task in wire.carrying:
            task.cancel()
        await asyncio.gather(*wire.carrying, return_exceptions=True)
    assert wire.happened


@pytest.fixture
async def filled(kafka: str, settings: Settings, pool: asyncpg.Pool) -> Settings:
    await apply_topics(settings)
    await Books(pool).settle(usage())
    await pool.execute(_ROWS, ROWS)
    return settings.model_copy(update={"port": free_port()})


async def breaks(settings: Settings) -> None:
    """The command says in a line that the answer broke off, and the directory is as it was."""
    place = settings.data_dir / "exports"
    place.mkdir()
    (place / "ledger.csv").write_text("the one of yesterday")
    result = await budget(settings, "export", "--output", place / "ledger.csv", code=1)
    (line,) = [line for line in result.err.splitlines() if not line.startswith("exporting: ")]
    assert line.startswith(f"error: the answer of the gateway at http://127.0.0.1:{settings.port} broke off: ")
    assert [file.name for file in place.iterdir()] == ["ledger.csv"]
    assert (place / "ledger.csv").read_text() == "the one of yesterday"


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.mark.parametrize("cut", [closed, reset])
async def test_an_export_of_which_the_connection_breaks_leaves_no_file(filled: Settings, cut: Happening) -> None:
    async with gateway(filled), wired(filled, cut) as wire:
        await breaks(wire)


async def test_an_export_of_which_the_database_session_ends_leaves_no_file(
    filled: Settings, pool: asyncpg.Pool
) -> None:
    async def session_ends(_: asyncio.StreamWriter) -> None:
        ended = await pool.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE 'COPY%'"
        )
        assert ended == 1

    async with gateway(filled), wired(filled, session_ends) as wire:
        await breaks(wire)


async def test_an_export_of_which_the_gateway_is_killed_leaves_no_file(filled: Settings) -> None:
    process = await start(filled, "serve", "gateway")

    async def killed(_: asyncio.StreamWriter) -> None:
        process.kill()
        await process.wait()

    try:
        await until(lambda: _listens(filled.port))
        async with wired(filled, killed) as wire:
            await breaks(wire)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_an_export_that_is_told_to_end_leaves_no_file(filled: Settings, number: int, code: int) -> None:
    half = asyncio.Event()

    async def halted(_: asyncio.StreamWriter) -> None:
        half.set()
        await process.wait()

    place = filled.data_dir / "exports"
    place.mkdir()
    async with gateway(filled), wired(filled, halted) as wire:
        process = await start(wire, "export", "--output", place / "ledger.csv")
        await asyncio.wait_for(half.wait(), 60)
        assert len([*place.iterdir()]) == 1
        process.send_signal(number)
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == code, err
    assert [*place.iterdir()] == []


async def test_an_export_that_is_not_broken_replaces_the_file(filled: Settings) -> None:
    file = filled.data_dir / "ledger.csv"
    file.write_text("the one of yesterday")

    async def nothing(_: asyncio.StreamWriter) -> None:
        pass

    async with gateway(filled), wired(filled, nothing) as wire:
        await budget(wire, "export", "--output", file)
    with file.open(newline="") as lines:
        assert len([*csv.DictReader(lines)]) == ROWS


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
