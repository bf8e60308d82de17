"""The route adapter, in process: bodies, methods, problems. No part of the gateway is needed for these."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import httpx2
import pytest
from pydantic import BaseModel, ConfigDict
from starlette.applications import Starlette

from budget_bus.errors import BudgetUnavailable, Conflict, Fenced, Forbidden, NotFound, Rejected, Unauthorized
from budget_bus.http.admission import Keys
from budget_bus.http.pace import Pace
from budget_bus.http.parts import Call, Parts
from budget_bus.http.problems import TABLE, NotJson, TooLarge, handlers, kind_of, problem_of
from budget_bus.http.query import Query
from budget_bus.http.route import Answer, Endpoint, routes
from budget_bus.producers.replies import NoAnswer


class Thing(BaseModel):
    model_config = ConfigDict(strict=True)

    count: int


class Words(Query):
    word: str | None = None


async def _echo(call: Call[Words, Thing]) -> Answer:
    return Answer(call.body, 201)


async def _show(call: Call[Words, None]) -> Answer:
    if call.query.word == "broken":
        raise ZeroDivisionError
    return Answer(Thing(count=len(call.path["name"])))


ENDPOINTS = (
    Endpoint(method="POST", path="/things/{name}", summary="", handle=_echo, body=Thing, answers={201: Thing}),
    Endpoint(method="GET", path="/things/{name}", summary="", handle=_show, query=Words, answers={200: Thing}),
)


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    parts = cast(Parts, SimpleNamespace(keys=Keys(None), pace=Pace(None)))
    app = Starlette(routes=list(routes(ENDPOINTS, parts)), exception_handlers=handlers())
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


async def test_a_body_and_a_path_arrive_and_an_answer_leaves(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/things/abc")).json() == {"count": 3}
    posted = await client.post("/things/abc", json={"count": 5})
    assert (posted.status_code, posted.json()) == (201, {"count": 5})
    assert (await client.head("/things/abc")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "slug", "field"),
    [
        pytest.param("POST", "/things/a", "{", 400, "invalid-json", None, id="unparsable JSON"),
        pytest.param("POST", "/things/a", "", 400, "invalid-json", None, id="no body"),
        pytest.param("POST", "/things/a", "[" * 9999, 400, "invalid-json", None, id="nested too deep"),
        pytest.param("POST", "/things/a", '"\\ud800"', 400, "invalid-json", None, id="half a surrogate pair"),
        pytest.param("POST", "/things/a", "[]", 422, "invalid-input", "", id="not an object"),
        pytest.param("POST", "/things/a", '{"count": "5"}', 422, "invalid-input", "count", id="a number as text"),
        pytest.param("POST", "/things/a", "{}", 422, "invalid-input", "count", id="a missing field"),
        pytest.param("GET", "/things/a?wrd=x", None, 422, "invalid-input", "wrd", id="an unknown parameter"),
        pytest.param("GET", "/things/a?word=x&word=y", None, 422, "invalid-input", "word", id="a parameter twice"),
        pytest.param("GET", "/nothing", None, 404, "not-found", None, id="an unknown path"),
        pytest.param("PUT", "/things/a", None, 405, "method-not-allowed", None, id="a method that is not there"),
        pytest.param("GET", "/things/a?word=broken", None, 500, "internal", None, id="a bug of ours"),
    ],
)
async def test_a_mistake_is_a_problem_that_names_it(
    client: httpx2.AsyncClient,
    *,
    method: str,
    path: str,
    content: str | None,
    status: int,
    slug: str,
    field: str | None,
) -> None:
    response = await client.request(method, path, content=content)
    body = response.json()
    assert (response.status_code, body["status"], body["type"]) == (status, status, slug)
    assert response.headers["content-type"] == "application/problem+json"
    assert body["detail"]
    if field is not None:
        assert body["errors"][0]["field"] == field


async def test_a_wrong_method_is_told_all_that_the_path_allows(client: httpx2.AsyncClient) -> None:
    assert (await client.delete("/things/a")).headers["allow"] == "GET, HEAD, POST"


async def test_a_body_that_is_declared_too_large_is_not_read(client: httpx2.AsyncClient) -> None:
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"x"

    response = await client.post("/things/a", content=chunks(), headers={"Content-Length": str(5 * 1024 * 1024)})
    assert (response.status_code, read) == (413, 0)


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (NotJson("x"), 400, "invalid-json"),
        (Unauthorized("x"), 401, "unauthorized"),
        (Forbidden("x"), 403, "forbidden"),
        (NotFound("x"), 404, "not-found"),
        (Conflict("x"), 409, "conflict"),
        (TooLarge("x"), 413, "too-large"),
        (Rejected("x"), 422, "invalid-input"),
        (BudgetUnavailable("x"), 503, "unavailable"),
        (NoAnswer("x"), 504, "no-answer"),
        (Fenced("x"), 503, "unavailable"),
        (ConnectionRefusedError(), 503, "unavailable"),
        (asyncpg.TooManyConnectionsError("x"), 503, "unavailable"),
        (asyncpg.CannotConnectNowError("x"), 503, "unavailable"),
        (asyncpg.InterfaceError("x"), 503, "unavailable"),
        (KeyError("x"), 500, "internal"),
        (asyncpg.UndefinedTableError("x"), 500, "internal"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_error_class_has_its_status(error: Exception, status: int, slug: str) -> None:
    assert (kind_of(error).status, kind_of(error).slug) == (status, slug)


def test_a_class_of_errors_is_never_shadowed_by_its_base() -> None:
    for cls, kind in TABLE.items():
        assert TABLE[next(base for base in cls.__mro__ if base in TABLE)] is kind


def test_our_own_words_stay_inside() -> None:
    assert "password" not in problem_of(OSError("password=x")).detail
    assert "secret" not in problem_of(RuntimeError("secret")).detail


def test_a_check_without_an_answer_keeps_its_request_id() -> None:
    assert problem_of(NoAnswer("x", request_id="r")).request_id == "r"


def test_a_thousand_wrong_fields_are_not_all_listed() -> None:
    from budget_bus.errors import FieldError

    problem = problem_of(Rejected("bad", [FieldError(str(i), "x") for i in range(1000)]))
    assert len(cast(list[Any], problem.errors)) == 100
    assert "1000 errors" in problem.detail
