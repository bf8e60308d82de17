"""An endpoint with its models -> a Starlette route. The models also make the OpenAPI document."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from budget_bus.http.admission import Principal
from budget_bus.http.body import read_body, read_json
from budget_bus.http.parts import Call, Parts
from budget_bus.http.query import Query, read_query
from budget_bus.keys.key import KeyRole

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler gives back: a model, or bytes that are JSON already, or a stream of bytes, or nothing."""

    content: BaseModel | bytes | AsyncIterator[bytes] | None = None
    status: int = 200
    media_type: str = JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    One method of one path. *body* is what the request body is read into, by *read* if that needs more than
    validation; *answers* gives the content of each status that is a success. *consumes* and *produces* are media types;
    with *optional* the body may be left out, and *read* is given none. *role* is what a key must have for it: if
    nothing is said, read for a GET and admin for the rest; *open_to_all* asks for no key.
    """

    method: str
    path: str
    summary: str
    handle: Callable[[Any], Awaitable[Answer]]
    answers: Mapping[int, Any]
    query: type[Query] = Query
    body: Any = None
    read: Callable[[bytes], Any] | None = None
    tags: tuple[str, ...] = field(default=())
    consumes: tuple[str, ...] = (JSON,)
    produces: str = JSON
    also_produces: tuple[str, ...] = ()
    optional: bool = False
    role: KeyRole | None = None
    open_to_all: bool = False

    @property
    def needs(self) -> KeyRole | None:
        """The role that a key must have; None if none is asked for."""
        if self.open_to_all:
            return None
        return self.role or (KeyRole.READ if self.method == "GET" else KeyRole.ADMIN)

    async def answer(self, parts: Parts, request: Request, principal: Principal) -> Answer:
        """
        Read the request, strictly, and have it handled.

        Raises:
            Rejected, NotJson, TooLarge: before anything was done.
        """
        query = read_query(self.query, request.query_params)
        body = None
        if self.body is not None:
            raw = await read_body(request)
            body = self.read(raw) if self.read else read_json(self.body, raw)
        return await self.handle(Call(parts, dict(request.path_params), query, body, principal))


def routes(endpoints: Iterable[Endpoint], parts: Parts) -> list[Route]:
    """One route per path, so that a wrong method is answered with all that the path allows."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    return [Route(path, PathApp(methods, parts)) for path, methods in paths.items()]


@dataclass(frozen=True, slots=True)
class PathApp:
    """The ASGI app of one path. Not a function, because Starlette would let only GET through to one."""

    methods: Mapping[str, Endpoint]
    parts: Parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        head = request.method == "HEAD" and "GET" in self.methods
        endpoint = self.methods.get("GET" if head else request.method)
        if endpoint is None:
            allowed = {*self.methods, *(["HEAD"] if "GET" in self.methods else [])}
            detail = f"{request.method} is not for {request.url.path}"
            raise HTTPException(405, detail, {"Allow": ", ".join(sorted(allowed))})
        principal = self.parts.keys.admit(request, endpoint.needs)
        if endpoint.needs is not None:
            await self.parts.pace.admit(principal.actor)
        answer = await endpoint.answer(self.parts, request, principal)
        response = _respond(answer, tagged=endpoint.method == "GET" and answer.status == 200)
        if "etag" in response.headers and response.headers["etag"] in _known_tags(request):
            response = Response(status_code=304, headers={"ETag": response.headers["etag"]})
        await response(scope, receive, send)


def _respond(answer: Answer, *, tagged: bool) -> Response:
    content = answer.content
    if isinstance(content, AsyncIterator):
        return StreamingResponse(content, answer.status, media_type=answer.media_type)
    raw = content.model_dump_json().encode() if isinstance(content, BaseModel) else content
    response = Response(raw, answer.status, media_type=answer.media_type if raw is not None else None)
    if tagged and raw is not None:
        # Weak, because the same content may leave compressed or not.
        response.headers["ETag"] = f'W/"{hashlib.sha256(raw).hexdigest()[:32]}"'
        response.headers["Cache-Control"] = "no-cache"
    return response


def _known_tags(request: Request) -> set[str]:
    return {tag.strip() for tag in request.headers.get("if-none-match", "").split(",")}
