"""Registration with Hermes: it finds us, and nothing of ours waits for it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog

from budget_bus.http.hermes import keep_registered
from budget_bus.settings import Settings, load_settings


@dataclass(slots=True)
class Hermes:
    """Registers whoever comes, unless *refuses* says otherwise, and remembers what it was sent."""

    port: int = 0
    refuses: bool = False
    garbled: bool = False
    heard: asyncio.Queue[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=asyncio.Queue)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        told = {"success": True, "componentId": "budget-1", "token": "t"}
        text = "[1" if self.garbled else json.dumps(told)
        status = "503 Away" if self.refuses else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        await writer.drain()
        writer.close()
        self.heard.put_nowait((head[0].split()[1], headers, body))


@asynccontextmanager
async def hermes() -> AsyncIterator[Hermes]:
    made = Hermes()
    server = await asyncio.start_server(made.answer, "127.0.0.1")
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


def settings(port: int) -> Settings:
    return load_settings({"BUDGET_HERMES_URL": f"http://127.0.0.1:{port}"}, env_file=Path(os.devnull))


@asynccontextmanager
async def registering(port: int) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    working = asyncio.create_task(keep_registered(settings(port), stopping, every_s=0.01))
    try:
        yield
    finally:
        stopping.set()
        await asyncio.wait_for(working, 10)


async def _next(there: Hermes, good: Callable[[str], bool]) -> tuple[str, dict[str, str], dict[str, Any]]:
    async with asyncio.timeout(10):
        while not good((heard := await there.heard.get())[0]):
            pass
        return heard


async def test_it_registers_and_its_heart_beats_with_the_token() -> None:
    async with hermes() as there, registering(there.port):
        path, _, wish = await _next(there, lambda _: True)
        assert path == "/api/register"
        assert (wish["name"], wish["endpoint"]) == ("budget", "http://127.0.0.1:8013")
        assert set(wish) == {"name", "version", "type", "endpoint", "capabilities", "metadata"}
        path, headers, beat = await _next(there, lambda _: True)
        assert (path, headers["x-authentication-token"], beat) == ("/api/heartbeat", "t", {"component_id": "budget-1"})


async def test_who_is_forgotten_registers_again() -> None:
    async with hermes() as there, registering(there.port):
        await _next(there, lambda path: path == "/api/heartbeat")
        there.refuses = True
        await _next(there, lambda path: path == "/api/register")
        there.refuses = False
        await _next(there, lambda path: path == "/api/heartbeat")


@pytest.mark.parametrize("garbled", [False, True], ids=["away", "garbled"])
async def test_a_hermes_that_is_away_or_garbled_is_complained_of_once(garbled: bool) -> None:
    async with hermes() as there:
        there.refuses, there.garbled = not garbled, garbled
        with structlog.testing.capture_logs() as logs:
            async with registering(there.port):
                for _ in range(5):
                    await _next(there, lambda path: path == "/api/register")
    assert [entry["log_level"] for entry in logs] == ["warning"]


async def test_without_the_setting_nothing_is_done() -> None:
    await keep_registered(load_settings({}, env_file=Path(os.devnull)), asyncio.Event())
