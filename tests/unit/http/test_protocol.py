"""Clients that take for ever, on a real server and real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from budget_bus.http.body import read_body
from budget_bus.http.problems import handlers
from budget_bus.http.protocol import PatientProtocol
from budget_bus.http.server import _listening, _Server


class Hasty(PatientProtocol):
    headers_s = 0.1


async def _read(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await read_body(request, within_s=0.1))))


async def _slow(request: Request) -> PlainTextResponse:
    await asyncio.sleep(3 * Hasty.headers_s)
    return PlainTextResponse("done")


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    app = Starlette(
        routes=[Route("/read", _read, methods=["POST"]), Route("/slow", _slow)], exception_handlers=handlers()
    )
    with _listening("127.0.0.1", 0) as listener:
        server = _Server(uvicorn.Config(app, http=Hasty, log_config=None, lifespan="off", timeout_keep_alive=60))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await running


async def said(port: int, *pieces: bytes) -> bytes:
    """What the server answers to *pieces* until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(10):
            return await reader.read()


@pytest.mark.parametrize(
    "head", [b"", b"G", b"GET /slow HTTP/1.1\r\nHost: x\r\nX-A: "], ids=["nothing", "a letter", "half a head"]
)
async def test_a_head_that_is_never_complete_ends_the_connection(head: bytes) -> None:
    async with serving() as port:
        assert await said(port, head) == b""


async def test_a_second_head_is_not_waited_for_longer_than_the_first() -> None:
    async with serving() as port:
        answer = await said(port, b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", b"GET /sl")
        assert answer.count(b"HTTP/1.1 200 OK") == 1


async def test_a_body_that_is_never_complete_is_a_problem() -> None:
    async with serving() as port:
        answer = await said(port, b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nConnection: close\r\n\r\nx")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"the body was not complete within 0.1 s" in answer


async def test_an_answer_may_take_longer_than_a_head() -> None:
    async with serving() as port:
        answer = await said(port, b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.endswith(b"done")
