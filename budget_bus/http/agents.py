"""/mcp/: the tools for agents, which ask this gateway itself in the name of whoever calls them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx2
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from budget_bus.errors import BudgetUnavailable, Unauthorized
from budget_bus.http.admission import Keys
from budget_bus.http.problems import response_of
from budget_bus.mcp.server import build_server

_LOOPBACK: Final = ["127.0.0.1", "127.0.0.1:*", "localhost", "localhost:*", "[::1]", "[::1]:*"]
_PATIENCE_S: Final = 60.0


class Agents:
    """
    The ASGI app below /mcp/, which answers while it is `running`. Where there are keys each request needs one, and each
    tool the role of what it asks for.
    """

    def __init__(self, gateway: ASGIApp, keys: Keys) -> None:
        transport = httpx2.ASGITransport(app=gateway)
        self._client = httpx2.AsyncClient(transport=transport, base_url="http://gateway", timeout=_PATIENCE_S)
        self._server = build_server(self._client)
        self._keys = keys
        self._app = self._server.streamable_http_app(
            streamable_http_path="/",
            stateless_http=True,
            json_response=True,
            # Without keys a page could have its own name lead here, and ask as if it were from this machine.
            transport_security=TransportSecuritySettings(
                enable_dns_rebinding_protection=not keys.asked_for, allowed_hosts=_LOOPBACK, allowed_origins=["*"]
            ),
        )
        self._running = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer from entering to leaving; only once."""
        stopping = asyncio.Event()
        # A task of its own, because what the library opens must be closed by the task that opened it.
        serving = asyncio.create_task(self._serve(stopping))
        try:
            yield
        finally:
            stopping.set()
            await serving

    async def _serve(self, stopping: asyncio.Event) -> None:
        async with self._client, self._server.session_manager.run():
            self._running = True
            await stopping.wait()
            self._running = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            self._admit(Request(scope))
        except (Unauthorized, BudgetUnavailable) as error:
            await response_of(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admit(self, request: Request) -> None:
        if not self._running:
            raise BudgetUnavailable("the tools for agents are not being served")
        if self._keys.asked_for:
            scheme, _, key = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not key.strip():
                raise Unauthorized("this needs a key: send the header `Authorization: Bearer KEY`")
            self._keys.principal_of(key.strip())
