"""A feed as a WebSocket: refused with a reason, or accepted, told a snapshot and then what comes, and closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
from pydantic import BaseModel
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from budget_bus import metrics
from budget_bus.http.admission import Keys
from budget_bus.http.feeds.feed import Feed, Message, Reader, Wants
from budget_bus.http.feeds.outgoing import SLOW, Ending, Outgoing
from budget_bus.http.parts import Parts
from budget_bus.http.problems import problem_of, response_of
from budget_bus.http.query import Query, read_query
from budget_bus.keys.key import KeyRole

PROTOCOL: Final = "budget.v1"
_KEY: Final = "bearer."  # what a browser puts before its key among the protocols that it offers
_FAREWELL_S = 10.0  # how long a client that reads too slowly may take until it has read why it is closed
_LONGEST_REASON = 123  # bytes that a close frame has room for (RFC 6455, section 5.5)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEndpoint:
    """
    A path with a feed. *name* is the one in the metrics. *wants* says for a query which messages are told, *snapshot*
    what is told first; it begins before anything else is told, and may have *Outgoing* leave out what it says itself.
    """

    path: str
    name: str
    query: type[Query]
    reader: Callable[[Parts], Reader]
    wants: Callable[[Any], Wants]
    snapshot: Callable[[Parts, Any, Any, Outgoing], Awaitable[BaseModel]]


def feed_routes(endpoints: Iterable[FeedEndpoint], parts: Parts) -> list[WebSocketRoute]:
    """A route for each feed. Nothing is opened before the first client comes, nor stays open after the last."""
    return [WebSocketRoute(endpoint.path, FeedApp(endpoint, parts)) for endpoint in endpoints]


class FeedApp:
    """The ASGI app of one feed's path, with the one feed that all of its clients share."""

    def __init__(self, endpoint: FeedEndpoint, parts: Parts) -> None:
        self._endpoint, self._parts = endpoint, parts
        self._feed: Feed[Any] = Feed(endpoint.name, lambda: endpoint.reader(parts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        with suppress(WebSocketDisconnect):
            async with AsyncExitStack() as stack:
                try:
                    outgoing = await self._enter(websocket, stack)
                except Exception as error:
                    await refuse(websocket, error)
                    return
                await websocket.accept(PROTOCOL if PROTOCOL in scope.get("subprotocols", ()) else None)
                await _converse(websocket, outgoing)
            # It has left the feed by now: what it takes from here on is nobody else's time.
            if outgoing.ended.done():
                await self._end(websocket, outgoing.ended.result())

    async def _enter(self, websocket: WebSocket, stack: AsyncExitStack) -> Outgoing:
        """
        Who may listen, to what, and what is told first: whatever is wrong is found before the connection is accepted.

        Raises:
            Rejected, BudgetUnavailable and errors of the database.
        """
        _check_key(websocket, self._parts.keys)
        query = read_query(self._endpoint.query, websocket.query_params)
        reader, outgoing = await stack.enter_async_context(self._feed.join(self._endpoint.wants(query)))
        payload = await self._endpoint.snapshot(self._parts, query, reader, outgoing)
        # Into the queue, so that nothing keeps it once it is sent: it may be large, and the clients many.
        outgoing.put_first(Message(type="snapshot", at=self._parts.now(), payload=payload).model_dump_json())
        return outgoing

    async def _end(self, websocket: WebSocket, ending: Ending) -> None:
        if ending is SLOW:
            metrics.WS_SLOW_CLOSED.labels(self._endpoint.name).inc()
        # A peer that reads nothing any more never learns of it; the listening socket's time limit ends it.
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await websocket.close(*ending)


def _check_key(websocket: WebSocket, keys: Keys) -> None:
    """
    Raises:
        Unauthorized, Forbidden: it has no key of the role read.
    """
    # A browser sends no headers of ours with a WebSocket, but it can offer protocols.
    offered = [name.removeprefix(_KEY) for name in websocket.scope.get("subprotocols", ()) if name.startswith(_KEY)]
    if keys.asked_for and offered and "authorization" not in websocket.headers:
        keys.principal_of(offered[0]).need(KeyRole.READ)
    else:
        keys.admit(websocket, KeyRole.READ)


async def _converse(websocket: WebSocket, outgoing: Outgoing) -> None:
    """Send until the client goes, is too slow, or the feed ends."""
    sending = asyncio.create_task(_send(websocket, outgoing))
    hearing = asyncio.create_task(_hear(websocket))
    try:
        first_of: set[asyncio.Future[Any]] = {sending, hearing, outgoing.ended}
        await asyncio.wait(first_of, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
        hearing.cancel()
        outcomes = await asyncio.gather(sending, hearing, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def _send(websocket: WebSocket, outgoing: Outgoing) -> None:
    while True:
        await websocket.send_text(await outgoing.get())


async def _hear(websocket: WebSocket) -> None:
    """Read what the client sends, which means nothing here, until it goes."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def refuse(websocket: WebSocket, error: Exception) -> None:
    """Answer *error* as over HTTP, or where the server cannot, close with its words."""
    problem = problem_of(error)
    if problem.status == 500:
        log.error("a feed cannot be entered", exc_info=error)
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(response_of(error))
    else:
        await websocket.close(1008, problem.detail.encode()[:_LONGEST_REASON].decode(errors="ignore"))
