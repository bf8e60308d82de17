"""The lines of the protocol over TCP: one reply for each request, in order, and no client that holds memory."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from budget_bus.errors import ConfigError
from budget_bus.local.ports import free_port
from budget_bus.settings import load_settings
from budget_bus.specialist.desk import Desk
from budget_bus.specialist.protocol import LINE_BYTES
from budget_bus.specialist.server import LOOPBACK, Patience, Server
from budget_bus.specialist.service import open_specialist


@asynccontextmanager
async def nobody_s_desk() -> AsyncIterator[tuple[int, Desk]]:
    """A specialist whose gateway is away."""
    settings = load_settings({}, port=free_port(), ai_port=free_port())
    async with open_specialist(settings) as desk:
        yield desk.port, desk


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with nobody_s_desk() as (port, _):
        yield port


async def talk(port: int, *lines: bytes, end: bool = True) -> list[dict[str, Any]]:
    """Send the lines at once; every reply until the server ends the connection."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=10**7)
    writer.write(b"".join(lines))
    if end:
        writer.write_eof()
    replies = [json.loads(line) async for line in reader]
    writer.close()
    await writer.wait_closed()
    return replies


async def test_ping_health_info(port: int) -> None:
    pong, health, info = await talk(port, b'{"type":"ping"}\n{"type":"health"}\n{"type":"info"}\n')
    assert pong == {"type": "pong", "ai_id": "penia-ci"}
    assert health == {
        "type": "health_response", "ai_id": "penia-ci", "status": "degraded", "component": "budget", "model": "intents",
        "clients": 1,
    }  # fmt: skip
    assert (info["type"], info["ai_id"], info["component"], info["port"]) == (
        "info_response",
        "penia-ci",
        "budget",
        port,
    )
    assert {"get_usage", "list_limits", "forecast"} <= set(info["tools"])
    assert not {"check_budget", "record_usage", "allocate_budget", "route_with_budget_awareness"} & set(info["tools"])


async def test_a_gateway_that_is_away_is_said_in_words(port: int) -> None:
    (reply,) = await talk(port, b'{"type":"chat","content":"who spent most today?"}\n')
    assert (reply["type"], reply["ai_id"]) == ("error", "penia-ci")
    assert "does not answer" in reply["error"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param(b"hello", "no JSON", id="not JSON"),
        pytest.param(b"\xff\xfe", "no JSON", id="not UTF-8"),
        pytest.param(b"[" * 60_000, "no JSON", id="nested beyond reading"),
        pytest.param(b"[1]", "JSON object", id="a list"),
        pytest.param(b"{}", "has a type", id="no type"),
        pytest.param(b'{"type":"dance"}', "has a type", id="an unknown type"),
        pytest.param(b'{"type":["ping"]}', "has a type", id="a type that is no text"),
        pytest.param(b'{"type":"chat"}', "content is missing", id="no content"),
        pytest.param(b'{"type":"chat","content":"  "}', "content is missing", id="empty content"),
        pytest.param(
            b'{"type":"chat","content":7}', "content: Input should be a valid string", id="content of no text"
        ),
        pytest.param(b'{"type":"chat","content":"a\\ud800"}', "cannot be printed", id="half a character"),
        pytest.param(b'{"type":"chat","content":"a\\u0000b"}', "cannot be printed", id="a NUL"),
        pytest.param(b'{"type":"chat","content":"x","history":3}', "history", id="a history that is no list"),
        pytest.param(b'{"type":"chat","content":"x","max_tokens":0}', "max_tokens", id="no tokens"),
        pytest.param(b'{"type":"chat","content":"x","temperature":"hot"}', "temperature", id="a temperature in words"),
    ],
)
async def test_a_wrong_line_is_an_error_line_and_the_next_is_answered(port: int, line: bytes, says: str) -> None:
    error, pong = await talk(port, line + b"\n", b'{"type":"ping"}\n')
    assert (error["type"], error["ai_id"], pong["type"]) == ("error", "penia-ci", "pong")
    assert says in error["error"]


async def test_blank_lines_are_ignored_and_the_last_line_needs_no_newline(port: int) -> None:
    assert [one["type"] for one in await talk(port, b'\n  \r\n{"type":"ping"}\r\n\n{"type":"ping"}')] == [
        "pong",
        "pong",
    ]


async def test_a_line_of_64_kib_is_answered(port: int) -> None:
    line = b'{"type":"ping","pad":"%b"}'
    full = line % (b"x" * (LINE_BYTES - len(line) + 2))
    assert len(full) == LINE_BYTES
    assert [one["type"] for one in await talk(port, full + b"\n", b'{"type":"ping"}\n')] == ["pong", "pong"]


@pytest.mark.parametrize("newline", [b"\n", b""])
async def test_a_longer_line_is_an_error_line_and_the_end(port: int, newline: bytes) -> None:
    long = b"x" * (LINE_BYTES + 1) + newline
    (error,) = await talk(port, long, b'{"type":"ping"}\n' * 9000, end=False)
    assert error["error"] == f"a line has at most {LINE_BYTES} bytes"


async def test_replies_keep_the_order_of_requests() -> None:
    async def answer(line: bytes) -> bytes:
        await asyncio.sleep(0)
        return line + b"\n"

    server = Server(answer)
    async with server.listening(0) as port:
        numbers = list(range(2000))
        assert await talk(port, *(b"%d\n" % n for n in numbers)) == numbers


async def test_many_clients_are_served_at_once() -> None:
    waiting, everybody = 0, asyncio.Event()

    async def answer(line: bytes) -> bytes:
        nonlocal waiting
        waiting += 1
        if waiting == 100:
            everybody.set()
        await everybody.wait()  # none is answered before all have asked
        return line + b"\n"

    server = Server(answer)
    async with server.listening(0) as port:
        replies = await asyncio.gather(*(talk(port, b"%d\n" % n) for n in range(100)))
    assert replies == [[n] for n in range(100)]


async def test_one_too_many_is_told_so() -> None:
    async def answer(line: bytes) -> bytes:
        return line + b"\n"

    server = Server(answer, Patience(clients=1))
    async with server.listening(0) as port:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(b"1\n")
        assert await reader.readline() == b"1\n"
        (error,) = await talk(port, end=False)
        assert "try later" in error["error"]
        writer.close()


async def test_an_idle_client_is_let_go() -> None:
    server = Server(_never, Patience(idle_s=0.05))
    async with server.listening(0) as port:
        assert await talk(port, end=False) == []
    assert server.clients == 0


async def test_a_client_that_reads_nothing_is_cut_off() -> None:
    cut = asyncio.Event()

    async def answer(line: bytes) -> bytes:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: cut.set())
        return b"x" * 1_000_000 + b"\n"

    server = Server(answer, Patience(unread_s=0.05))
    async with server.listening(0) as port:
        with socket.create_connection((LOOPBACK, port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"1\n" * 1000)
            await asyncio.wait_for(cut.wait(), 20)


async def test_what_was_accepted_is_answered_at_the_stop() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def answer(line: bytes) -> bytes:
        begun.set()
        await go_on.wait()
        return line + b"\n"

    server = Server(answer)
    async with server.listening(0) as port:
        talking = asyncio.create_task(talk(port, b"1\n2\n3\n", end=False))
        await begun.wait()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert await talking == [1, 2, 3]
    with pytest.raises(OSError):  # noqa: PT011 - whichever way it is refused
        await asyncio.open_connection(LOOPBACK, port)


async def test_a_fault_of_ours_costs_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    async with nobody_s_desk() as (port, _):
        monkeypatch.setattr(Desk, "ask", broken)
        error, pong = await talk(port, b'{"type":"chat","content":"x"}\n', b'{"type":"ping"}\n')
    assert "fault of the specialist" in error["error"]
    assert pong["type"] == "pong"


async def test_a_port_in_use_names_the_setting() -> None:
    async with Server(_never).listening(0) as port:
        with pytest.raises(ConfigError, match=f"{port}.*set BUDGET_AI_PORT to a free port"):
            async with Server(_never).listening(port):
                pass


async def test_it_listens_on_loopback_alone() -> None:
    async with Server(_never).listening(0) as port:
        found = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port, family=socket.AF_INET)}
        for host in found - {LOOPBACK} - {f"127.0.{n}.1" for n in range(1, 3)}:
            with pytest.raises(OSError):  # noqa: PT011
                socket.create_connection((host, port), timeout=2).close()
    assert LOOPBACK == "127.0.0.1"


async def test_a_key_is_sent() -> None:
    settings = load_settings({"BUDGET_API_KEY": "bdgt_k"}, ai_port=free_port())
    async with open_specialist(settings) as desk:
        assert desk.client.headers["authorization"] == "Bearer bdgt_k"
        assert isinstance(desk.client, httpx2.AsyncClient)


async def _never(line: bytes) -> bytes:
    raise AssertionError(line)
