"""Who may do what: every endpoint with every role, bound keys, and keys that come and go while the gateway runs."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from budget_bus.errors import ConfigError, Forbidden, Unauthorized
from budget_bus.events.usage import UsageRecorded
from budget_bus.http import check, holds, record
from budget_bus.http.admission import Keys, Principal
from budget_bus.http.app import ENDPOINTS
from budget_bus.http.pace import Pace
from budget_bus.http.parts import Call, Parts
from budget_bus.http.problems import handlers
from budget_bus.http.query import Query
from budget_bus.http.route import Answer, Endpoint, routes
from budget_bus.keys.file import add_key, make_key, revoke_key
from budget_bus.keys.key import KeyRole
from budget_bus.store import reads

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOLD = UUID("6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10")
CALL = {"component": "rhetor", "provider": "openai", "model": "gpt-4o", "input_tokens": 1, "output_tokens": 1}

# The roles of the public contract, written out; what is not here is read for a GET and admin for the rest.
OPEN = {("GET", "/health/live"), ("GET", "/health/ready")}
ROLES = {
    ("POST", "/api/record"): KeyRole.RECORD,
    ("POST", "/api/check"): KeyRole.CHECK,
    ("POST", "/api/optimize"): KeyRole.READ,
    ("POST", "/api/simulate"): KeyRole.READ,
    ("POST", "/api/holds/{request_id}/release"): KeyRole.CHECK,
    ("POST", "/api/holds/{request_id}/extend"): KeyRole.CHECK,
}


def add(path: Path, name: str, *roles: KeyRole, components: tuple[str, ...] = ()) -> str:
    """The key that was added; its text is made of its name."""
    text = f"bdgt_{name}"
    add_key(path, make_key(text, name=name, roles=roles, components=components, created_at=NOW))
    return text


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A keys file with a key for each role, named after it."""
    path = tmp_path / "keys.json"
    for role in KeyRole:
        add(path, role.value, role)
    return path


async def _done(call: Call[Any, Any]) -> Answer:
    return Answer(call.actor.encode())


# The endpoints as they are, but what they do is nothing.
IDLE = tuple(replace(endpoint, handle=_done, body=None, read=None, query=Query) for endpoint in ENDPOINTS)


@asynccontextmanager
async def client_of(
    keys: Keys, endpoints: tuple[Endpoint, ...] = IDLE, **parts: Any
) -> AsyncIterator[httpx2.AsyncClient]:
    opened = cast(Parts, SimpleNamespace(keys=keys, pace=Pace(None), **parts))
    transport = httpx2.ASGITransport(app=Starlette(routes=routes(endpoints, opened), exception_handlers=handlers()))
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


async def ask(client: httpx2.AsyncClient, endpoint: Endpoint, key: str | None) -> httpx2.Response:
    path = re.sub(r"\{\w+\}", "x", endpoint.path)
    return await client.request(endpoint.method, path, headers=bearer(key) if key else {})


@pytest.mark.parametrize("role", KeyRole)
@pytest.mark.parametrize("endpoint", IDLE, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
async def test_every_endpoint_lets_its_role_and_admin_pass_and_nobody_else(
    path: Path, endpoint: Endpoint, role: KeyRole
) -> None:
    place = (endpoint.method, endpoint.path)
    needed = ROLES.get(place, KeyRole.READ if endpoint.method == "GET" else KeyRole.ADMIN)
    async with client_of(Keys(path)) as client:
        response = await ask(client, endpoint, f"bdgt_{role}")
        nobody = await ask(client, endpoint, None)
    assert nobody.status_code == (200 if place in OPEN else 401)
    if place in OPEN or role in (needed, KeyRole.ADMIN):
        assert response.status_code == 200
        return
    problem = response.json()
    assert (response.status_code, problem["type"]) == (403, "forbidden")
    assert problem["detail"] == f"this needs a key with the role {needed}; key:{role} has only {role}"


def test_the_table_of_roles_names_only_endpoints_that_there_are() -> None:
    assert {*ROLES, *OPEN} <= {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        pytest.param({}, "Authorization: Bearer KEY", id="nothing"),
        pytest.param({"Authorization": "Bearer"}, "Authorization: Bearer KEY", id="no key"),
        pytest.param({"Authorization": "Bearer  "}, "Authorization: Bearer KEY", id="blanks for a key"),
        pytest.param({"Authorization": "Basic bdgt_admin"}, "Authorization: Bearer KEY", id="another scheme"),
        pytest.param({"Authorization": "bdgt_admin"}, "Authorization: Bearer KEY", id="the key alone"),
        pytest.param({"Authorization": "Bearer bdgt_admi"}, "not known", id="a part of a key"),
        pytest.param({"Authorization": "Bearer BDGT_ADMIN"}, "not known", id="a key in capitals"),
        pytest.param({"Authorization": "Bearer bdgt_admin x"}, "not known", id="more than a key"),
        pytest.param({"Authorization": "Bearer \xe9".encode("latin-1")}, "not known", id="what is no ASCII"),
        pytest.param({"X-Api-Key": "bdgt_admin"}, "Authorization: Bearer KEY", id="another header"),
    ],
)
async def test_without_a_key_that_is_known_the_answer_is_401(path: Path, headers: dict[str, Any], says: str) -> None:
    async with client_of(Keys(path)) as client:
        response = await client.get("/api/status", headers=headers)
    problem = response.json()
    assert (response.status_code, problem["type"], problem["title"]) == (401, "unauthorized", "Unauthorized")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == "Bearer"
    assert says in problem["detail"]


async def test_the_scheme_may_be_written_in_any_case_and_head_is_as_get(path: Path) -> None:
    async with client_of(Keys(path)) as client:
        assert (await client.get("/api/status", headers={"Authorization": "bearer bdgt_read"})).status_code == 200
        assert (await client.head("/api/status", headers=bearer("bdgt_read"))).status_code == 200
        assert (await client.head("/api/status")).status_code == 401
        assert (await client.get("/nowhere")).status_code == 404


async def test_the_actor_is_the_key_or_without_keys_the_address(path: Path) -> None:
    async with client_of(Keys(path)) as client:
        assert (await client.get("/api/status", headers=bearer("bdgt_read"))).text == "key:read"
        assert (await client.get("/health/live")).text == "http:127.0.0.1"
    async with client_of(Keys(None)) as client:
        assert (await client.delete("/api/config/x", headers=bearer("whatever"))).text == "http:127.0.0.1"


async def test_a_body_is_not_read_before_the_key_is_known(path: Path) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield pytest.fail("the body was read")

    async with client_of(Keys(path), ENDPOINTS) as client:
        assert (await client.post("/api/check", content=never())).status_code == 401
        assert (await client.post("/api/check", content=never(), headers=bearer("bdgt_read"))).status_code == 403


def test_a_websocket_is_admitted_like_a_request(path: Path) -> None:
    def socket(headers: list[tuple[bytes, bytes]]) -> HTTPConnection:
        return HTTPConnection({"type": "websocket", "path": "/ws", "headers": headers, "client": ("::1", 9)})

    keys = Keys(path)
    known = socket([(b"authorization", b"Bearer bdgt_read")])
    assert keys.admit(known, KeyRole.READ) == Principal("key:read", frozenset({KeyRole.READ}))
    with pytest.raises(Forbidden, match="role admin"):
        keys.admit(known, KeyRole.ADMIN)
    with pytest.raises(Unauthorized):
        keys.admit(socket([]), KeyRole.READ)
    assert Keys(None).admit(socket([]), KeyRole.ADMIN).actor == "http:::1"


class Bus:
    """Takes what the gateway sends and remembers it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.actors: list[str | None] = []

    async def ask(self, question: check.CheckBody, *, timeout_s: float) -> bytes:
        self.sent.append(question.component)
        return b"{}"

    async def send_usage(self, events: list[UsageRecorded]) -> list[Any]:
        self.sent += [event.component for event in events]
        return []

    async def release_hold(self, request_id: UUID, *, component: str, reason: str | None, actor: str | None) -> None:
        self.sent.append(component)
        self.actors.append(actor)

    async def extend_hold(self, request_id: UUID, *, component: str, expires_at: datetime, actor: str | None) -> None:
        self.sent.append(component)
        self.actors.append(actor)


def _event(component: str) -> dict[str, Any]:
    return {**CALL, "component": component}


def _question(component: str) -> dict[str, Any]:
    asked = {"component": component, "provider": "openai", "model": "gpt-4o"}
    return {**asked, "request_id": str(uuid4()), "estimated_tokens": 5}


BOUND = [
    pytest.param("/api/check", _question, id="a check"),
    pytest.param("/api/record", _event, id="an event"),
    pytest.param("/api/record", lambda name: [_event("rhetor"), _event(name)], id="the last of a list"),
    pytest.param("/api/record", lambda name: {"events": [_event(name), _event("rhetor")]}, id="the first of a list"),
    pytest.param(f"/api/holds/{HOLD}/release", lambda name: {}, id="giving a hold back"),
    pytest.param(f"/api/holds/{HOLD}/extend", lambda name: {"ttl_s": 60}, id="keeping a hold"),
]


@asynccontextmanager
async def bound_client(
    keys: Keys, bus: Bus, monkeypatch: pytest.MonkeyPatch, component: str
) -> AsyncIterator[httpx2.AsyncClient]:
    """A gateway on whose books one hold of *component* is open."""

    async def hold(_pool: Any, request_id: UUID) -> dict[str, Any]:
        view = {"state": "open", "context_id": None, "cost_nanos": 1, "currency": "USD", "tokens": 1}
        times = {"decided_at": NOW, "expires_at": NOW}
        return {**_question(component), **view, **times, "request_id": request_id}

    monkeypatch.setattr(reads, "hold", hold)
    endpoints = (*check.ENDPOINTS, *record.ENDPOINTS, *holds.ENDPOINTS)
    settings = SimpleNamespace(check_timeout_ms=1000)
    async with client_of(keys, endpoints, bus=bus, pool=None, settings=settings, now=lambda: NOW) as client:
        yield client


@pytest.mark.parametrize(("url", "body"), BOUND)
async def test_a_bound_key_acts_for_its_components_only(
    path: Path, monkeypatch: pytest.MonkeyPatch, url: str, body: Any
) -> None:
    key = add(path, "bound", KeyRole.RECORD, KeyRole.CHECK, components=("rhetor", "apollo"))
    bus = Bus()
    for component, allowed in (("rhetor", True), ("apollo", True), ("hermes", False), ("RHETOR", False)):
        bus.sent.clear()
        async with bound_client(Keys(path), bus, monkeypatch, component) as client:
            response = await client.post(url, json=body(component), headers=bearer(key))
        if allowed:
            assert response.status_code in (200, 202), response.text
            assert component in bus.sent
        else:
            assert (response.status_code, response.json()["type"]) == (403, "forbidden")
            assert f"not to '{component}'" in response.json()["detail"]
            assert bus.sent == []


@pytest.mark.parametrize(("url", "body"), BOUND)
async def test_without_the_binding_the_same_would_be_sent(
    path: Path, monkeypatch: pytest.MonkeyPatch, url: str, body: Any
) -> None:
    key = add(path, "free", KeyRole.RECORD, KeyRole.CHECK)
    bus = Bus()
    async with bound_client(Keys(path), bus, monkeypatch, "hermes") as client:
        assert (await client.post(url, json=body("hermes"), headers=bearer(key))).status_code in (200, 202)
    assert "hermes" in bus.sent


async def test_an_operator_is_named_to_the_audit_and_a_component_is_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component, operator, bus = add(path, "rhetor", KeyRole.CHECK), add(path, "ops", KeyRole.ADMIN), Bus()
    async with bound_client(Keys(path), bus, monkeypatch, "rhetor") as client:
        for key in (component, operator):
            await client.post(f"/api/holds/{HOLD}/release", json={}, headers=bearer(key))
            await client.post(f"/api/holds/{HOLD}/extend", json={"ttl_s": 60}, headers=bearer(key))
    assert bus.actors == [None, None, "key:ops", "key:ops"]


async def test_a_bound_key_reads_what_all_may_read(path: Path) -> None:
    key = add(path, "bound", KeyRole.READ, components=("rhetor",))
    async with client_of(Keys(path)) as client:
        assert (await client.get("/api/usage/daily", headers=bearer(key))).status_code == 200


def test_of_many_components_a_few_are_named() -> None:
    with pytest.raises(Forbidden, match=r"'c0', .* and 90 more$"):
        Principal("key:a", frozenset(), frozenset({"x"})).must_act_for([f"c{i}" for i in range(100)])


class Clock:
    """Stands still until it is moved on."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_key_that_is_revoked_or_added_counts_within_a_second(path: Path, clock: Clock) -> None:
    keys = Keys(path, clock=clock)
    revoke_key(path, "read")
    new = add(path, "new", KeyRole.READ)
    clock.now_s = 0.9
    assert keys.principal_of("bdgt_read").actor == "key:read"
    clock.now_s = 1.0
    assert keys.principal_of(new).actor == "key:new"
    with pytest.raises(Unauthorized):
        keys.principal_of("bdgt_read")


def test_when_the_last_key_is_revoked_nobody_is_admitted(path: Path, clock: Clock) -> None:
    keys = Keys(path, clock=clock)
    for role in KeyRole:
        revoke_key(path, role)
    clock.now_s = 1.0
    with pytest.raises(Unauthorized):
        keys.principal_of("bdgt_admin")


def test_a_file_that_has_not_changed_is_not_read_again(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(path, clock=clock)
    monkeypatch.setattr("budget_bus.http.admission.read_keys", lambda _path: pytest.fail("it was read again"))
    for clock.now_s in (1.0, 2.0, 3.0):
        keys.principal_of("bdgt_read")


@pytest.mark.parametrize("content", ["{", '{"keys": [7]}', None], ids=["no JSON", "no keys", "removed"])
def test_keys_stay_in_force_while_the_file_cannot_be_read(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    keys, good = Keys(path, clock=clock), path.read_text()
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    for clock.now_s in (1.0, 2.0, 3.0):
        assert keys.principal_of("bdgt_read").actor == "key:read"
    (error,) = caplog.records  # not one each second
    assert error.levelno == logging.ERROR
    assert str(path) in error.getMessage()
    path.write_text(good)
    revoke_key(path, "read")
    clock.now_s = 4.0
    with pytest.raises(Unauthorized):
        keys.principal_of("bdgt_read")


def test_a_reading_that_failed_is_tried_again_though_the_file_stays_the_same(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(path, clock=clock)
    revoke_key(path, "read")

    def fail(_path: Path) -> Any:
        raise ConfigError("too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("budget_bus.http.admission.read_keys", fail)
        clock.now_s = 1.0
        assert keys.principal_of("bdgt_read").actor == "key:read"
    clock.now_s = 2.0
    with pytest.raises(Unauthorized):
        keys.principal_of("bdgt_read")


def test_no_keys_at_the_start_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(ConfigError, match="`budget keys add"):
        Keys(path)
    path.write_text('{"keys": []}')
    with pytest.raises(ConfigError, match=r"keys\.json has no keys; make one with `budget keys add"):
        Keys(path)
