"""The TCP server: one reply line for each request line, in order, to many clients; none of them can hold memory."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from budget_bus import metrics
from budget_bus.errors import ConfigError
from budget_bus.specialist import protocol
from budget_bus.specialist.protocol import LINE_BYTES

LOOPBACK: Final = "127.0.0.1"  # the protocol knows no keys, so nobody else may ask
_CHUNK_BYTES: Final = 16 * 1024
_BACKLOG: Final = 128

Answer = Callable[[bytes], Awaitable[bytes]]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client may do nothing, or leave unread what it was sent; how many there may be; how we part."""

    idle_s: float = 600
    unread_s: float = 20
    clients: int = 200
    farewell_s: float = 15
    linger_s: float = 2


class _TooLong(Exception):
    """A line that is longer than the protocol allows."""


@dataclass(slots=True)
class _Lines:
    """The lines of one client; never more than one line and one chunk of them in memory."""

    reader: asyncio.StreamReader
    _buffer: bytearray = field(default_factory=bytearray)
    _ended: bool = False

    def ready(self) -> bytes | None:
        """The next line that has arrived in full; the last one needs no newline."""
        at = self._buffer.find(b"\n")
        if at < 0 and len(self._buffer) <= LINE_BYTES and not (self._ended and self._buffer):
            return None
        end = at if at >= 0 else len(self._buffer)
        if end > LINE_BYTES:
            raise _TooLong
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def more(self) -> bool:
        """Wait for a chunk; whether there may be another line."""
        chunk = await self.reader.read(_CHUNK_BYTES)
        self._buffer += chunk
        self._ended = not chunk
        return bool(self._buffer)


@dataclass(slots=True)
class Server:
    """Gives every line to *answer* and sends back what it returns."""

    answer: Answer
    patience: Patience = field(default_factory=Patience)
    _clients: set[asyncio.Task[None]] = field(default_factory=set)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def clients(self) -> int:
        """How many are connected now."""
        return len(self._clients)

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[int]:
        """
        Serve on *port* of loopback (0: any) until left; what was received by then is answered. Gives the port.

        Raises:
            ConfigError: the port cannot be had.
        """
        try:
            listener = socket.create_server((LOOPBACK, port), backlog=_BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {LOOPBACK}:{port}: {error.strerror}; set BUDGET_AI_PORT to a free port"
            ) from None
        server = await asyncio.start_server(self._serve, sock=listener, limit=_CHUNK_BYTES)
        try:
            yield listener.getsockname()[1]
        finally:
            server.close()
            self._stopping.set()
            await self._farewell()
            await server.wait_closed()

    async def _farewell(self) -> None:
        if not self._clients:
            return
        _, late = await asyncio.wait(self._clients, timeout=self.patience.farewell_s)
        for client in late:
            client.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - the library starts us as one
        full = len(self._clients) >= self.patience.clients
        self._clients.add(task)
        metrics.SPECIALIST_CLIENTS.inc()
        try:
            if full:
                await self._send(writer, protocol.error(f"{self.patience.clients} clients are connected; try later"))
            else:
                await self._converse(_Lines(reader), writer)
        except (OSError, TimeoutError):
            # The client is gone, or takes nothing; there is nobody to tell.
            writer.transport.abort()
        except Exception:
            log.exception("a client of the specialist was dropped")
            writer.transport.abort()
        finally:
            metrics.SPECIALIST_CLIENTS.dec()
            self._clients.discard(task)
            await self._close(writer)

    async def _converse(self, lines: _Lines, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = lines.ready()
            except _TooLong:
                await self._send(writer, protocol.error(f"a line has at most {LINE_BYTES} bytes"))
                await self._linger(lines.reader, writer)
                return
            if line is None:
                if not await self._heard_more(lines):
                    return
            elif line.strip():
                await self._send(writer, await self.answer(line))

    async def _heard_more(self, lines: _Lines) -> bool:
        """False once the client has ended, has been idle for too long, or the server stops."""
        if self._stopping.is_set():
            return False
        reading = asyncio.ensure_future(lines.more())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((reading, stopping), timeout=self.patience.idle_s, return_when=asyncio.FIRST_COMPLETED)
            return reading.done() and reading.result()
        finally:
            for waiting in (reading, stopping):
                waiting.cancel()
            await asyncio.gather(reading, stopping, return_exceptions=True)

    async def _send(self, writer: asyncio.StreamWriter, line: bytes) -> None:
        writer.write(line)
        await asyncio.wait_for(writer.drain(), self.patience.unread_s)

    async def _linger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Closing while there is something unread would take our last line from the client (RFC 9293, 3.10.4)."""
        writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.patience.linger_s):
                while await reader.read(_CHUNK_BYTES):
                    pass

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        try:
            await asyncio.wait_for(writer.wait_closed(), self.patience.unread_s)
        except TimeoutError:
            writer.transport.abort()
        except OSError:
            pass
