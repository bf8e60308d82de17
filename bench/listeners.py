"""Many WebSocket clients in one process that do no more than they must: read frames, note ids, answer pings."""

from __future__ import annotations

import asyncio
import re
import resource
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

_ID = re.compile(rb'"alert_id":"([0-9a-f-]{36})"')
_REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_TEXT, _CLOSE, _PING = 0x81, 0x88, 0x89
_AT_ONCE = 50
_SPARE_FILES = 200


@dataclass(slots=True)
class Tally:
    """What all clients have heard together: how often each alert came, and when it came to each."""

    heard: Counter[bytes] = field(default_factory=Counter)
    arrivals_s: list[float] = field(default_factory=list)
    lost: int = 0  # connections that the server has ended
    _wanted: tuple[int, asyncio.Future[None]] | None = None

    async def until(self, count: int) -> None:
        """Wait until *count* messages have come in all."""
        if self.heard.total() < count:
            self._wanted = (count, asyncio.get_running_loop().create_future())
            await self._wanted[1]

    def note(self, alert_id: bytes) -> None:
        self.heard[alert_id] += 1
        self.arrivals_s.append(time.perf_counter())
        if self._wanted and len(self.arrivals_s) >= self._wanted[0]:
            self._wanted[1].set_result(None)
            self._wanted = None


class Listener(asyncio.Protocol):
    """One client; `ready` once it is accepted."""

    def __init__(self, path: str, port: int, tally: Tally) -> None:
        self.heard: list[bytes] = []
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._request, self._tally = _REQUEST.format(path=path, port=port).encode(), tally
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self.ready.done():
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.ready.set_exception(RuntimeError(head.decode()))
                return
            self.ready.set_result(None)
            self._data = rest
        while self._frame():
            pass

    def connection_lost(self, _error: Exception | None) -> None:
        self._tally.lost += 1
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("it was closed at once"))

    def _frame(self) -> bool:
        data = self._data
        if len(data) < 2:
            return False
        size, begin = data[1], 2
        if size >= 126:
            begin = 4 if size == 126 else 10
            size = int.from_bytes(data[2:begin], "big")
        if len(data) < begin + size:
            return False
        payload = bytes(data[begin : begin + size])
        if data[0] == _PING:
            self.transport.write(bytes((0x8A, 0x80 | size, 0, 0, 0, 0)) + payload)
        elif data[0] == _TEXT and (found := _ID.search(payload)):
            self.heard.append(found[1])
            self._tally.note(found[1])
        del data[: begin + size]
        return True


async def connected(count: int, path: str, port: int) -> tuple[list[Listener], Tally]:
    """*count* clients that have all been accepted."""
    _allow_files(count)
    tally, gate = Tally(), asyncio.Semaphore(_AT_ONCE)

    async def one() -> Listener:
        async with gate:
            _, client = await asyncio.get_running_loop().create_connection(
                lambda: Listener(path, port, tally), "127.0.0.1", port
            )
            await client.ready
            return client

    return list(await asyncio.gather(*(one() for _ in range(count)))), tally


async def stuck(path: str, port: int) -> Listener:
    """A client that reads nothing once it is accepted, and whose socket takes in next to nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    _, client = await asyncio.get_running_loop().create_connection(lambda: Listener(path, port, Tally()), sock=sock)
    await client.ready
    client.transport.pause_reading()
    return client


def disconnect(clients: Sequence[Listener]) -> None:
    for client in clients:
        client.transport.abort()


def _allow_files(count: int) -> None:
    """Every client takes a file here and one in the server, which inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + _SPARE_FILES:
        raise RuntimeError(f"{count} clients need more open files than the {hard} that `ulimit -Hn` allows")
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
