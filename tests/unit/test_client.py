"""What the clients send, repeat and raise; the steps are run by hand, so no time passes and nothing is faked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx2
import pytest

from budget_bus.client import AsyncBudgetClient, BudgetClient, steps
from budget_bus.client.steps import GuardState, OnUnavailable, Request, Response, Steps
from budget_bus.errors import BudgetExceeded, BudgetUnavailable, Conflict, Forbidden, NotFound, Rejected, Unauthorized

CALL = {"component": "rhetor", "provider": "anthropic", "model": "claude-3-opus"}
AWAY = Response(failure="connection refused")
ALLOWED = Response(200, {"allowed": True, "action": "allow", "hold": {"amount": "0.1"}})
RECORDED = {
    "status": "recorded",
    "cost": "0.03",
    "input_cost": "0.01",
    "output_cost": "0.02",
    "currency": "USD",
    "price_status": "priced",
    "input_tokens": 3,
    "output_tokens": 4,
    "total_tokens": 7,
    "occurred_at": "2026-01-01T00:00:00Z",
}


def run(running: Steps[Any], *responses: Response) -> tuple[Any, list[Request]]:
    """Feed *responses* to the steps; what they return and all they asked for."""
    requests: list[Request] = []
    try:
        request = next(running)
        for response in responses:
            requests.append(request)
            request = running.send(response)
    except StopIteration as done:
        return done.value, requests
    pytest.fail(f"{request} was not expected")


def body(request: Request) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(request.content)
    return sent


def problem(status: int, **more: Any) -> Response:
    return Response(status, {"type": "slug", "detail": "the reason", **more})


def test_a_check_is_repeated_with_the_same_id_until_it_is_answered() -> None:
    (allowed, info), requests = run(steps.check("raise", CALL), AWAY, problem(503), ALLOWED)
    assert (allowed, info) == (True, ALLOWED.body)
    assert len({body(request)["request_id"] for request in requests}) == 1
    assert [request.pause_s for request in requests] == [0.0, 0.05, 0.2]


def test_a_late_answer_is_asked_for_once_more() -> None:
    (allowed, _), _requests = run(steps.check("raise", CALL), problem(504), ALLOWED)
    assert allowed
    with pytest.raises(BudgetUnavailable):
        run(steps.check("raise", CALL), problem(504), problem(504))


def test_a_wait_as_long_as_the_caller_allows_is_not_repeated() -> None:
    with pytest.raises(BudgetUnavailable) as caught:
        run(steps.check("raise", {**CALL, "request_id": "r"}), Response(failure="timed out", late=True))
    assert caught.value.request_id == "r"


@pytest.mark.parametrize(("told", "allowed"), [("allow", True), ("deny", False)])
def test_an_unavailable_service_answers_what_the_client_was_told(told: OnUnavailable, allowed: bool) -> None:
    (answer, info), _ = run(steps.check(told, CALL), AWAY, AWAY, AWAY, AWAY)
    assert (answer, info["allowed"]) == (allowed, allowed)
    assert "unavailable" in info["reason"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Rejected),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, Rejected),
        (422, Rejected),
    ],
)
def test_a_mistake_is_raised_at_once_with_the_services_words(status: int, error: type[Rejected]) -> None:
    response = problem(status, errors=[{"field": "model", "message": "is required"}])
    with pytest.raises(error) as caught:
        run(steps.record(CALL), response)
    assert type(caught.value) is error
    assert str(caught.value) == "the reason; model: is required"


def test_a_server_error_is_not_repeated_because_it_would_come_again() -> None:
    with pytest.raises(BudgetUnavailable, match="the reason"):
        run(steps.record(CALL), problem(500))


def test_a_record_gives_the_platforms_keys() -> None:
    event = {**CALL, "event_id": UUID(int=1), "context_id": "c", "task_type": "t"}
    recorded, (request,) = run(steps.record(event), Response(200, {"results": [RECORDED]}))
    assert body(request)["event_id"] == str(UUID(int=1))
    old_keys = {"record_id": str(UUID(int=1)), "context_id": "c", "task_type": "t", "total_tokens": 7,
                "input_cost": "0.01", "output_cost": "0.02", "total_cost": "0.03", "input_tokens": 3,
                "output_tokens": 4, "timestamp": "2026-01-01T00:00:00Z", **CALL}  # fmt: skip
    assert old_keys.items() <= recorded.items()


def test_a_record_that_is_not_in_the_ledger_yet_has_no_cost() -> None:
    recorded, _ = run(steps.record({**CALL, "input_tokens": 5}), Response(202, {"accepted": 1}))
    assert (recorded["status"], recorded["total_cost"], recorded["input_tokens"]) == ("pending", None, 5)


@pytest.mark.parametrize(("status", "error"), [("conflict", Conflict), ("rejected", Rejected)])
def test_an_event_that_the_books_refuse_is_an_error(status: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(steps.record(CALL), Response(200, {"results": [{**RECORDED, "status": status}]}))


def test_values_are_written_as_json_and_none_is_left_out() -> None:
    event = {**CALL, "occurred_at": datetime(2026, 1, 1, tzinfo=UTC), "user": None,
             "reported_cost": {"amount": Decimal("0.10"), "currency": "USD"}}  # fmt: skip
    _, (request,) = run(steps.record(event), Response(200, {"results": [RECORDED]}))
    sent = body(request)
    assert (sent["occurred_at"], sent["reported_cost"]["amount"]) == ("2026-01-01T00:00:00+00:00", "0.10")
    assert "user" not in sent


def test_metadata_of_a_completion_goes_into_the_tags() -> None:
    fields: Mapping[str, Any] = {**CALL, "input_text": "a", "output_text": "b", "tags": {"team": "x"}}
    _, (request,) = run(steps.record_completion(fields, {"n": 1}), Response(200, {"results": [RECORDED]}))
    assert body(request)["tags"] == {"team": "x", "n": "1"}


def test_a_guard_settles_its_hold_with_what_the_check_said() -> None:
    guard = GuardState({**CALL, "estimated_tokens": 9, "context_id": "c"})
    run(guard.enter("raise"), ALLOWED)
    with pytest.raises(BudgetUnavailable):
        run(guard.settle({"input_tokens": 1, "output_tokens": 2}), problem(500))
    _, (request,) = run(guard.settle({"input_tokens": 1, "output_tokens": 2}), Response(200, {"results": [RECORDED]}))
    sent = body(request)
    assert (sent["request_id"], sent["event_id"]) == (guard.fields["request_id"], guard.event_id)
    assert (sent["context_id"], sent["input_tokens"]) == ("c", 1)
    assert "estimated_tokens" not in sent
    with pytest.raises(RuntimeError):
        run(guard.void(None))


def test_a_denied_guard_raises_with_the_decision() -> None:
    info = {"allowed": False, "reason": "daily is used up", "hold": None}
    with pytest.raises(BudgetExceeded, match="daily is used up") as caught:
        run(GuardState(CALL).enter("raise"), Response(200, info))
    assert caught.value.info == info


def test_voiding_gives_back_only_a_hold_that_was_placed() -> None:
    held, free = GuardState(CALL), GuardState(CALL)
    run(held.enter("raise"), ALLOWED)
    _, (request,) = run(held.void("not sent"), Response(202, {}))
    assert (request.path, body(request)) == (
        f"/api/holds/{held.fields['request_id']}/release",
        {"reason": "not sent"},
    )
    run(free.enter("allow"), AWAY, AWAY, AWAY, AWAY)
    assert run(free.void(None)) == (None, [])


@pytest.mark.parametrize(
    ("environ", "arguments", "url"),
    [
        ({}, {}, "http://127.0.0.1:8013"),
        ({"BUDGET_HOST": "10.0.0.1", "BUDGET_PORT": "9"}, {}, "http://10.0.0.1:9"),
        ({"BUDGET_HOST": "0.0.0.0"}, {"port": 5}, "http://127.0.0.1:5"),  # noqa: S104  # a setting, not a socket
        ({"BUDGET_PORT": "9"}, {"host": "::1"}, "http://[::1]:9"),
    ],
)
def test_where_the_gateway_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, environ: dict[str, str], arguments: dict[str, Any], url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    host, port = arguments.get("host"), arguments.get("port")
    assert steps.options(host, port, None, 5, "raise").base_url == url


def test_the_file_of_settings_counts_where_the_environment_is_silent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env.budget").write_text("BUDGET_PORT=8099\nBUDGET_API_KEY=bdgt_file\n")
    assert steps.options(None, None, "key", 5, "raise").base_url == "http://127.0.0.1:8099"
    assert steps.options(None, None, None, 5, "raise").headers["Authorization"] == "Bearer bdgt_file"
    monkeypatch.setenv("BUDGET_API_KEY", "bdgt_environment")
    assert steps.options(None, None, None, 5, "raise").headers["Authorization"] == "Bearer bdgt_environment"


async def test_both_clients_send_their_key_and_none_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with BudgetClient(api_key="bdgt_one") as one, BudgetClient() as none:
        assert one._http.headers["Authorization"] == "Bearer bdgt_one"
        assert "Authorization" not in none._http.headers
    async with AsyncBudgetClient(api_key="bdgt_two") as two:
        assert two._http.headers["Authorization"] == "Bearer bdgt_two"


@pytest.mark.parametrize("key", ["geheim\r\nX: y", "zwei geheim", "gehéim"])
def test_what_is_no_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="BUDGET_API_KEY") as told:
        BudgetClient(api_key=key)
    assert "geh" not in str(told.value)


def test_a_word_that_is_no_answer_to_unavailability_is_refused() -> None:
    with pytest.raises(ValueError, match="'raise', 'allow' or 'deny'"):
        BudgetClient(on_unavailable="ignore")  # type: ignore[arg-type]


async def test_nobody_listening_is_unavailable_for_both_clients(unused_port: int) -> None:
    with BudgetClient(port=unused_port) as client, pytest.raises(BudgetUnavailable):
        client.check_budget(**CALL, estimated_tokens=1)
    async with AsyncBudgetClient(port=unused_port, on_unavailable="deny") as other:
        assert (await other.check_budget(**CALL, estimated_tokens=1))[0] is False


@pytest.fixture
def unused_port() -> int:
    from budget_bus.local.ports import free_port

    return free_port()


def test_a_timeout_is_told_from_a_refused_connection() -> None:
    assert steps.failed(httpx2.ReadTimeout("slow"), "http://x").late
    assert not steps.failed(httpx2.ConnectError("no"), "http://x").late


def test_importing_the_client_loads_no_server_and_nothing_that_takes_long() -> None:
    code = (
        "import sys; from budget.client import BudgetClient as B; from budget_bus.client import BudgetClient as C;"
        "servers = {'aiokafka', 'asyncpg', 'starlette', 'uvicorn', 'faststream', 'budget_bus.store'};"
        "servers |= {'asyncio', 'httpx2', 'pydantic'};"
        "assert B is C; print(sorted(servers & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
