"""The gateway in process, on a real broker and PostgreSQL, with the settler and decider running."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest

from budget_bus.client import AsyncBudgetClient, BudgetClient
from budget_bus.errors import BudgetExceeded, ConfigError
from budget_bus.http.server import gateway
from budget_bus.local.child import start
from budget_bus.local.ports import free_port
from budget_bus.local.trial import open_trial
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings
from budget_bus.store import reads
from tests.integration import http_client

CALL: dict[str, Any] = {"component": "rhetor", "provider": "anthropic", "model": "claude-3-opus"}
USED: dict[str, Any] = {**CALL, "input_tokens": 1000, "output_tokens": 100}


@asynccontextmanager
async def client_of(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client.client_of(settings, settling_patience_s=settings.check_timeout_ms / 1000) as client:
        yield client


@pytest.fixture
async def topics(kafka: str, settings: Settings) -> None:
    await apply_topics(settings)


@pytest.fixture
async def client(topics: None, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    # Patient, because the first question also waits until the decider has joined its group.
    patient = settings.model_copy(update={"check_timeout_ms": 30_000})
    async with settler(settings), decider(settings), client_of(patient) as client:
        yield client


@pytest.fixture
async def lone_client(topics: None, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """A gateway without consumers behind it."""
    async with client_of(settings.model_copy(update={"check_timeout_ms": 500})) as client:
        yield client


async def until(client: httpx2.AsyncClient, path: str, good: Callable[[Any], bool]) -> Any:
    """Ask until the answer is *good*."""
    async with asyncio.timeout(30):
        while not good(body := (await client.get(path)).json()):
            pass
        return body


async def record(client: httpx2.AsyncClient, *events: dict[str, Any]) -> list[dict[str, Any]]:
    response = await client.post("/api/record?wait=true", json=list(events))
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


async def test_ready_names_what_is_there(client: httpx2.AsyncClient) -> None:
    said = await until(client, "/health/ready", lambda body: bool(body["ready"]))
    assert said["checks"] == dict.fromkeys(("database", "broker", "answers", "consumers"), "ok")
    assert (await client.get("/health/live")).json() == {"status": "live"}
    assert "budget_bus_decisions_total" in (await client.get("/metrics")).text


async def test_wait_says_recorded_then_duplicate_then_conflict(client: httpx2.AsyncClient) -> None:
    event = {**USED, "event_id": str(uuid4())}
    (first,) = await record(client, event)
    assert first["status"] == "recorded"
    assert (first["cost"], first["total_tokens"], first["currency"]) == ("0.0225", 1100, "USD")
    assert (first["input_cost"], first["output_cost"]) == ("0.015", "0.0075")
    (again,) = await record(client, event)
    assert again == {**first, "status": "duplicate"}
    (other,) = await record(client, {**event, "output_tokens": 101})
    assert other == {**first, "status": "conflict"}


async def test_wait_says_late_when_the_window_had_closed(client: httpx2.AsyncClient) -> None:
    await client.post("/api/limits", json={"period": "daily", "limit": 10})
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    (result,) = await record(client, {**USED, "occurred_at": yesterday})
    assert result["status"] == "late"


async def test_a_list_with_one_bad_event_writes_nothing(client: httpx2.AsyncClient, pool: asyncpg.Pool) -> None:
    events = [dict(USED) for _ in range(5)]
    del events[3]["model"]
    bare = await client.post("/api/record", json=events)
    named = await client.post("/api/record", json={"events": events})
    assert (bare.status_code, named.status_code) == (422, 422)
    assert bare.json()["errors"] == [{"field": "3.model", "message": "is required"}]
    assert named.json()["errors"] == [{"field": "events.3.model", "message": "is required"}]
    await record(client, USED)  # what came after it is in the books, so what came before would be too
    assert await pool.fetchval("SELECT count(*) FROM ledger") == 1


async def test_an_event_in_the_future_is_refused_with_its_index(lone_client: httpx2.AsyncClient) -> None:
    ahead = (datetime.now(UTC) + timedelta(seconds=400)).isoformat()
    response = await lone_client.post("/api/record", json={"events": [USED, {**USED, "occurred_at": ahead}]})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "events.1.occurred_at"


async def test_without_a_settler_the_events_are_pending(lone_client: httpx2.AsyncClient) -> None:
    response = await lone_client.post("/api/record?wait=true", json=USED)
    assert response.status_code == 202
    body = response.json()
    assert (body["accepted"], len(body["event_ids"]), body["status"]) == (1, 1, "pending")


async def test_record_answers_202_with_the_ids_in_order(lone_client: httpx2.AsyncClient) -> None:
    given = [str(uuid4()) for _ in range(3)]
    response = await lone_client.post("/api/record", json=[{**USED, "event_id": i} for i in given])
    assert response.status_code == 202
    assert response.json() == {"accepted": 3, "event_ids": given}


async def test_a_check_is_denied_by_a_hard_limit_and_its_repeat_gets_the_same_bytes(client: httpx2.AsyncClient) -> None:
    limit = {"period": "daily", "limit": "0.01", "policy": "HARD_LIMIT", "name": "tiny"}
    assert (await client.post("/api/limits", json=limit)).status_code == 201
    question = {**CALL, "request_id": str(uuid4()), "estimated_tokens": 1000}
    first = await client.post("/api/check", json=question)
    assert first.status_code == 200
    info = first.json()
    assert (info["allowed"], info["action"], info["policy_type"]) == (False, "deny", "hard_limit")
    assert info["budgets"][0]["name"] == "tiny"
    assert (await client.post("/api/check", json=question)).content == first.content


async def test_the_same_request_id_with_another_question_is_a_conflict(client: httpx2.AsyncClient) -> None:
    question = {**CALL, "request_id": str(uuid4()), "estimated_tokens": 1000}
    assert (await client.post("/api/check", json=question)).status_code == 200
    response = await client.post("/api/check", json={**question, "estimated_tokens": 1001})
    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "conflict"


async def test_with_the_decider_away_a_check_is_504_with_its_request_id(lone_client: httpx2.AsyncClient) -> None:
    request_id = str(uuid4())
    response = await lone_client.post("/api/check", json={**CALL, "request_id": request_id, "estimated_tokens": 1})
    assert response.status_code == 504
    assert (response.json()["type"], response.json()["request_id"]) == ("no-answer", request_id)


async def test_checks_that_wait_together_each_get_their_own_answer(client: httpx2.AsyncClient) -> None:
    ids = [str(uuid4()) for _ in range(30)]
    responses = await asyncio.gather(
        *(client.post("/api/check", json={**CALL, "request_id": i, "estimated_tokens": 10}) for i in ids)
    )
    assert [response.json()["request_id"] for response in responses] == ids


async def test_a_hold_is_listed_until_it_is_settled(client: httpx2.AsyncClient) -> None:
    checked = await client.post("/api/check", json={**CALL, "estimated_tokens": 1000})
    assert checked.status_code == 200, checked.text
    request_id = checked.json()["request_id"]
    (hold,) = (await client.get("/api/holds")).json()["items"]
    assert (hold["request_id"], hold["state"], hold["component"]) == (request_id, "open", "rhetor")
    await record(client, {**USED, "request_id": request_id})
    assert (await client.get("/api/holds?component=rhetor")).json() == {"items": [], "next_cursor": None}


async def test_usage_sums_groups_and_edges_to_the_last_digit(client: httpx2.AsyncClient) -> None:
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)
    at = [day + timedelta(minutes=m, seconds=s) for m, s in ((0, 0), (7, 30), (14, 59), (15, 0), (44, 59), (47, 0))]
    await record(
        client,
        *({**USED, "occurred_at": t.isoformat(), "component": "ab"[i % 2]} for i, t in enumerate(at)),
        {**USED, "model": "nobody-knows-it", "occurred_at": at[3].isoformat(), "provider": "unheard-of"},
    )

    async def usage(start: datetime, end: datetime, **more: str) -> dict[str, Any]:
        params = {"start": start.isoformat(), "end": end.isoformat(), **more}
        response = await client.get("/api/usage/daily", params=params)
        assert response.status_code == 200, response.text
        report: dict[str, Any] = response.json()
        return report

    whole = await usage(day, day + timedelta(days=1), group_by="component,model")
    assert (whole["totals"]["requests"], whole["totals"]["unpriced_requests"]) == (7, 1)
    assert whole["totals"]["cost"] == "0.135"
    assert [(g["key"]["component"], g["requests"], g["cost"]) for g in whole["groups"]] == [
        ("a", 3, "0.0675"),
        ("b", 3, "0.0675"),
        ("rhetor", 1, "0"),
    ]
    # From the ledger alone, from ledger and rollups, and with an end that is excluded.
    for start_s, end_s, expected in (
        (0, 450, 1),
        (1, 451, 1),
        (450, 2820, 4),
        (450, 2821, 5),
        (899, 900, 1),
        (898, 899, 0),
    ):
        part = await usage(day + timedelta(seconds=start_s), day + timedelta(seconds=end_s), model="claude-3-opus")
        assert part["totals"]["requests"] == expected, (start_s, end_s)


async def test_usage_shows_the_periods_budgets_that_the_filters_do_not_contradict(client: httpx2.AsyncClient) -> None:
    for period, scope in (("daily", {}), ("daily", {"component": "rhetor"}), ("weekly", {})):
        await client.post("/api/limits", json={"period": period, "limit": 5, "scope": scope})
    await record(client, USED)

    async def spent(**params: str) -> list[tuple[dict[str, str], str]]:
        report = (await client.get("/api/usage/daily", params=params)).json()
        return [(b["scope"], b["spent"]) for b in report["budgets"]]

    assert await spent() == [({}, "0.0225"), ({"component": "rhetor"}, "0.0225")]
    assert await spent(component="ergon") == [({}, "0.0225")]


async def test_a_limit_set_after_usage_shows_what_is_spent_already(client: httpx2.AsyncClient) -> None:
    await record(client, USED)
    created = await client.post("/api/limits", json={"period": "daily", "limit": 1})
    assert created.status_code == 201
    assert (created.json()["spent"], created.json()["available"]) == ("0.0225", "0.9775")


async def test_a_limit_is_created_changed_patched_and_removed(lone_client: httpx2.AsyncClient) -> None:
    body = '{"period": "daily", "limit": 10.10, "policy": "hard_limit", "scope": {"component": "x"}}'
    created = await lone_client.post("/api/limits", content=body)
    assert created.status_code == 201, created.text
    budget = created.json()
    assert (budget["limit"], budget["policy"], budget["name"]) == ("10.1", "HARD_LIMIT", "daily component=x")
    changed = await lone_client.post("/api/limits", content=body.replace("10.10", "11"))
    assert (changed.status_code, changed.json()["budget_id"]) == (200, budget["budget_id"])
    path = f"/api/limits/{budget['budget_id']}"
    patched = await lone_client.patch(path, json={"policy": None, "thresholds": [90]})
    assert (patched.json()["policy"], patched.json()["policy_source"]) == ("WARN", "default")
    assert (patched.json()["limit"], patched.json()["thresholds"]) == ("11", [90])
    listed = (await lone_client.get("/api/limits", params={"component": "x"})).json()
    assert [item["budget_id"] for item in listed["items"]] == [budget["budget_id"]]
    assert (await lone_client.delete(path)).status_code == 204
    assert (await lone_client.get(path)).status_code == 404
    assert (await lone_client.delete(path)).json()["type"] == "not-found"


async def test_status_shows_lag_and_balances(client: httpx2.AsyncClient, settings: Settings) -> None:
    await client.post("/api/limits", json={"period": "total", "limit": 100, "unit": "requests"})
    await record(client, USED)
    status = await until(client, "/api/status", lambda body: not body["stale"])
    assert status["database"]["ok"]
    assert status["broker"] == {
        "ok": True,
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "kind": "configured",
    }
    assert [(t["topic"], t["lag_messages"], t["lag_s"]) for t in status["topics"]] == [
        ("usage.recorded", 0, 0.0),
        ("check.requested", 0, 0.0),
    ]
    assert (status["budgets"][0]["spent"], status["budgets"][0]["window_end"]) == ("1", None)


async def test_lag_is_what_nobody_has_read(lone_client: httpx2.AsyncClient) -> None:
    await lone_client.post("/api/record", json=[USED] * 7)
    status = (await lone_client.get("/api/status")).json()
    assert status["topics"][0]["lag_messages"] == 7
    assert (status["topics"][0]["lag_s"], status["stale"]) == (None, True)


async def test_alerts_are_listed_newest_first(client: httpx2.AsyncClient) -> None:
    await client.post("/api/limits", json={"period": "daily", "limit": "0.03", "thresholds": [50, 100]})
    await record(client, USED)
    await record(client, USED)
    page = (await client.get("/api/alerts", params={"page_size": 1})).json()
    rest = (await client.get("/api/alerts", params={"cursor": page["next_cursor"]})).json()
    assert [alert["threshold_percent"] for alert in (*page["items"], *rest["items"])] == [100, 50]
    assert page["items"][0]["acknowledged_at"] is None


async def test_nobody_reading_is_not_ready(lone_client: httpx2.AsyncClient) -> None:
    response = await lone_client.get("/health/ready")
    assert response.status_code == 503
    assert response.json()["checks"]["consumers"] == "nobody reads usage.recorded, check.requested yet"


async def test_usage_that_kafka_has_is_accepted_also_if_the_database_cannot_be_asked(
    lone_client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise ConnectionRefusedError

    monkeypatch.setattr(reads, "progress", away)
    answer = await lone_client.post("/api/record?wait=true", json=USED)
    assert (answer.status_code, answer.json()["accepted"], answer.json()["status"]) == (202, 1, "pending")


async def test_the_bodies_limit_holds_without_a_content_length(lone_client: httpx2.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 100_000

    response = await lone_client.post("/api/record", content=endless())
    assert response.status_code == 413
    assert json.loads(response.content)["type"] == "too-large"


async def test_a_hold_is_given_back_and_a_closed_one_is_a_conflict(client: httpx2.AsyncClient) -> None:
    request_id = (await client.post("/api/check", json={**CALL, "estimated_tokens": 1000})).json()["request_id"]
    path = f"/api/holds/{request_id}"
    extended = await client.post(f"{path}/extend", json={"ttl_s": 3000})
    assert (extended.status_code, extended.json()["state"]) == (202, "open")
    for body, words in (
        ({"expires_at": "2100-01-01T00:00:00Z"}, "is more than 86,400 s ahead"),
        ({"expires_at": "2026-01-01T00:00:00Z"}, "is before the hold's end"),
        ({"ttl_s": 1}, "is before the hold's end"),
    ):
        refused = await client.post(f"{path}/extend", json=body)
        (error,) = refused.json()["errors"]
        assert (refused.status_code, error["field"]) == (422, next(iter(body)))
        assert words in error["message"]
    assert (await client.post(f"{path}/release")).status_code == 202
    await until(client, "/api/holds", lambda body: not body["items"])
    again = await client.post(f"{path}/release", json={})
    assert (again.status_code, again.json()["detail"]) == (409, f"hold {request_id} is voided")
    assert (await client.post(f"{path}/extend", json={"ttl_s": 5})).status_code == 409
    assert (await client.post(f"/api/holds/{uuid4()}/release", json={})).status_code == 404
    assert (await client.post("/api/holds/x/release", json={})).status_code == 404


async def test_the_clients_against_a_gateway_that_listens(topics: None, settings: Settings) -> None:
    port = free_port()
    listening = settings.model_copy(update={"port": port, "check_timeout_ms": 30_000})

    def blocking() -> None:
        with BudgetClient(port=port, timeout=60) as client:
            allowed, info = client.check_budget(**CALL, estimated_tokens=1000)
            assert (allowed, info["action"], info["tier"]) == (True, "allow", "remote_heavyweight")
            recorded = client.record_usage(**USED, request_id=info["request_id"])
            assert (recorded["status"], recorded["total_cost"], recorded["total_tokens"]) == (
                "recorded",
                "0.0225",
                1100,
            )
            completed = client.record_completion(**CALL, input_text="Hello, world!", output_text="Hi there!")
            assert completed["total_tokens"] > 2
            with client.guard(**CALL, estimated_tokens=10) as call:
                assert call.settle(input_tokens=1, output_tokens=1)["status"] == "recorded"
            with client.guard(**CALL, estimated_tokens=10) as call:
                call.void()

    async with settler(settings), decider(settings), gateway(listening):
        await asyncio.to_thread(blocking)
        async with AsyncBudgetClient(port=port, timeout=60) as client:
            assert (await client.record_usage(**USED))["status"] == "recorded"
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as raw:
                limit = {"period": "daily", "limit": 0, "policy": "HARD_LIMIT"}
                assert (await raw.post("/api/limits", json=limit)).status_code == 201
            with pytest.raises(BudgetExceeded):
                async with client.guard(**CALL, estimated_tokens=10):
                    pytest.fail("a denied call was let through")


async def test_a_gateway_that_stops_answers_what_it_has_accepted(topics: None, settings: Settings) -> None:
    port = free_port()
    slow = settings.model_copy(update={"port": port, "check_timeout_ms": 1500})
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        async with gateway(slow) as app:
            assert app.routes
            assert (await client.get("/health/live")).status_code == 200
            asking = asyncio.create_task(client.post("/api/check", json={**CALL, "estimated_tokens": 1}))
            # An answered request after it shows that the server has taken the first one up.
            assert (await client.get("/api/limits")).status_code == 200
        assert (await asking).status_code == 504  # nobody decides here, but it is an answer
        with pytest.raises(httpx2.ConnectError):
            await client.get("/health/live")


async def test_with_the_broker_away_requests_are_503_and_status_says_so(settings: Settings, tmp_path: Path) -> None:
    try:
        broker = open_trial(tmp_path)
    except ConfigError as error:
        pytest.skip(str(error))
    child = await start(broker, tmp_path / "broker.log")
    servers = broker.bootstrap_servers
    brokered = settings.model_copy(update={"kafka_bootstrap_servers": servers, "check_timeout_ms": 500})
    await apply_topics(brokered)
    try:
        async with client_of(brokered) as client:
            assert (await client.get("/health/ready")).json()["checks"]["broker"] == "ok"
            await child.stop(10)
            request_id = str(uuid4())
            checked = await client.post("/api/check", json={**CALL, "request_id": request_id, "estimated_tokens": 1})
            assert (checked.status_code, checked.json()["type"]) == (503, "unavailable")
            assert (checked.json()["request_id"], checked.headers["retry-after"]) == (request_id, "1")
            ready = await client.get("/health/ready")
            assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "ok")
            status = (await client.get("/api/status")).json()
            assert (status["broker"]["ok"], status["database"]["ok"]) == (False, True)
            assert status["topics"][0]["lag_messages"] is None
    finally:
        await child.stop(10)
