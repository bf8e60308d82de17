"""What stands around the endpoints: compression, entity tags, and whose pages may call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import SimpleNamespace
from typing import cast

import httpx2
import pytest
from pydantic import BaseModel
from starlette.applications import Starlette

from budget_bus.http import docs
from budget_bus.http.admission import Keys
from budget_bus.http.app import ENDPOINTS
from budget_bus.http.middleware import middleware
from budget_bus.http.pace import Pace, TooMany
from budget_bus.http.parts import Call, Parts
from budget_bus.http.problems import handlers
from budget_bus.http.query import Query
from budget_bus.http.route import Answer, Endpoint, routes
from budget_bus.settings import Settings, load_settings

Opened = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


class Thing(BaseModel):
    text: str


@asynccontextmanager
async def opened(
    text: str = "x" * 5000, origins: str | None = None, pace: Pace | None = None
) -> AsyncIterator[httpx2.AsyncClient]:
    async def show(_call: Call[Query, None]) -> Answer:
        return Answer(Thing(text=text))

    async def change(_call: Call[Query, None]) -> Answer:
        return Answer(status=204)

    endpoints = (
        Endpoint(method="GET", path="/thing", summary="", handle=show, answers={200: Thing}),
        Endpoint(method="POST", path="/thing", summary="", handle=change, answers={204: None}),
    )
    app = Starlette(
        routes=[
            *routes(endpoints, cast(Parts, SimpleNamespace(keys=Keys(None), pace=pace or Pace(None)))),
            *docs.routes(ENDPOINTS),
        ],
        exception_handlers=handlers(),
        middleware=middleware(Settings.model_construct(cors_origins=origins)),
    )
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://gateway:8013") as client:
        yield client


async def test_what_has_not_changed_is_not_sent_again() -> None:
    async with opened() as client:
        first = await client.get("/thing")
        again = await client.get("/thing", headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    async with opened(text="y") as client:
        other = await client.get("/thing", headers={"If-None-Match": first.headers["etag"]})
        assert (other.status_code, other.json()) == (200, {"text": "y"})


async def test_a_head_has_the_tag_too_and_a_change_has_none() -> None:
    async with opened() as client:
        assert (await client.head("/thing")).headers["etag"] == (await client.get("/thing")).headers["etag"]
        assert "etag" not in (await client.post("/thing")).headers


async def test_an_answer_is_compressed_for_those_who_say_that_they_can_read_it() -> None:
    async with opened() as client:
        assert (await client.get("/thing")).headers["content-encoding"] == "gzip"
        plain = await client.get("/thing", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "http://gateway:9999", "null"])
async def test_the_page_of_another_site_may_not_call(origin: str) -> None:
    async with opened() as client:
        for method in ("GET", "POST"):
            refused = await client.request(method, "/thing", headers={"Origin": origin})
            assert (refused.status_code, refused.json()["type"]) == (403, "forbidden")
            assert "access-control-allow-origin" not in refused.headers


async def test_our_own_page_may_call_and_so_may_one_that_the_settings_name() -> None:
    async with opened() as client:
        assert (await client.post("/thing", headers={"Origin": "http://gateway:8013"})).status_code == 204
    board = {"Origin": "https://board.example"}
    async with opened(origins="https://board.example, https://other.example") as client:
        assert (await client.post("/thing", headers=board)).headers["access-control-allow-origin"] == board["Origin"]
        asked = await client.options("/thing", headers={**board, "Access-Control-Request-Method": "POST"})
        assert asked.status_code == 200
        assert (await client.post("/thing", headers={"Origin": "https://evil.example"})).status_code == 403


@pytest.mark.parametrize("text", ["board.example", "https://board.example/", "ftp://a.b", "https://a.b,*"])
def test_an_origin_that_no_browser_sends_stops_the_start(text: str) -> None:
    with pytest.raises(Exception, match="is not an origin such as"):
        load_settings({"BUDGET_CORS_ORIGINS": text})


@pytest.mark.parametrize("path", ["/docs", "/asyncapi"])
async def test_a_page_loads_nothing_from_elsewhere(path: str) -> None:
    async with opened() as client:
        page = await client.get(path)
        assert page.status_code == 200
        assert "http://" not in page.text
        assert "https://" not in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'self'")
        for part in page.text.split('"'):
            if part.startswith("/"):
                loaded = await client.get(part)
                assert (loaded.status_code, len(loaded.content) > 100) == (200, True), part


async def test_the_documents_are_there() -> None:
    async with opened() as client:
        assert (await client.get("/openapi.json")).json()["openapi"] == "3.1.0"
        assert (await client.get("/asyncapi.json")).json()["asyncapi"] == "3.0.0"


async def test_more_requests_than_are_allowed_are_told_when_to_come_again() -> None:
    async with opened(pace=Pace(3)) as client:
        answers = [await client.get("/thing") for _ in range(10)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert answers[0].status_code == 200
        assert len(refused) >= 4
        assert refused[0].json()["type"] == "too-many-requests"
        assert int(refused[0].headers["retry-after"]) >= 1


async def test_each_has_a_pace_of_its_own() -> None:
    pace = Pace(1)
    await pace.admit("key:a")
    await pace.admit("key:b")
    with pytest.raises(TooMany, match="1 requests in a second by key:a"):
        await asyncio.gather(*(pace.admit("key:a") for _ in range(3)))


async def test_without_a_limit_nobody_waits() -> None:
    async with opened() as client:
        assert {(await client.get("/thing")).status_code for _ in range(50)} == {200}
