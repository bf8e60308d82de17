"""Small real receivers of notifications on the loopback: HTTP and SMTP, with answers as scripted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default


@dataclass(frozen=True, slots=True)
class Posted:
    """One HTTP request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class HttpReceiver:
    """Answers with *script*'s statuses, each with its headers, then with 200. `open` cleared holds back all answers."""

    port: int = 0
    script: list[tuple[int, str]] = field(default_factory=list)
    posted: asyncio.Queue[Posted] = field(default_factory=asyncio.Queue)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/geheim"

    async def next(self) -> Posted:
        async with asyncio.timeout(30):
            return await self.posted.get()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                headers: dict[str, str] = {}
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.posted.put_nowait(Posted(line.decode().split()[1], headers, body))
                await self.open.wait()
                status, extra = self.script.pop(0) if self.script else (200, "")
                writer.write(f"HTTP/1.1 {status} Said\r\n{extra}Content-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def http_receiver(*script: tuple[int, str]) -> AsyncIterator[HttpReceiver]:
    receiver = HttpReceiver(script=list(script))
    receiver.open.set()
    async with _serving(receiver.answer) as receiver.port:
        yield receiver


@dataclass(slots=True)
class SmtpReceiver:
    """
    Takes mail. *replies* says what to answer to a command instead of what is usual, each reply once. With *tls* it
    encrypts after STARTTLS.
    """

    port: int = 0
    tls: ssl.SSLContext | None = None
    replies: dict[str, list[str]] = field(default_factory=dict)
    mails: asyncio.Queue[EmailMessage] = field(default_factory=asyncio.Queue)
    commands: list[str] = field(default_factory=list)

    async def next(self) -> EmailMessage:
        async with asyncio.timeout(30):
            return await self.mails.get()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"220 here\r\n")
            while line := await reader.readline():
                self.commands.append(line.decode().strip())
                verb = line.decode().split()[0].upper()
                usual = {"DATA": "354 go on", "QUIT": "221 bye", "STARTTLS": "220 go on"}.get(verb, "250 ok")
                reply = self.replies[verb].pop(0) if self.replies.get(verb) else usual
                writer.write(f"{reply}\r\n".encode())
                if verb == "STARTTLS" and self.tls:
                    await writer.start_tls(self.tls)
                if verb == "DATA" and reply.startswith("354"):
                    raw = await reader.readuntil(b"\r\n.\r\n")
                    self.mails.put_nowait(message_from_bytes(raw.removesuffix(b".\r\n"), policy=default))  # type: ignore[arg-type]
                    writer.write(b"250 taken\r\n")
                await writer.drain()
                if verb == "QUIT":
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def smtp_receiver(
    *, start_tls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, **replies: list[str]
) -> AsyncIterator[SmtpReceiver]:
    receiver = SmtpReceiver(tls=start_tls, replies={verb.upper(): list(lines) for verb, lines in replies.items()})
    async with _serving(receiver.answer, tls) as receiver.port:
        yield receiver


@asynccontextmanager
async def _serving(answer: Callable[..., object], tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(answer(reader, writer)))  # type: ignore[arg-type]

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
