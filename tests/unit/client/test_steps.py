"""What the clients ask, repeat and raise."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import httpx2
import pytest

from budget_bus.client import BudgetClient, asking, exchange, steps
from budget_bus.client.calls import GuardState
from budget_bus.client.exchange import OnUnavailable, Options, Request, Response
from budget_bus.errors import BudgetExceeded, BudgetUnavailable, Conflict, Forbidden, NotFound, Rejected, Unauthorized
from tests.unit.client.driving import ACCEPTED, ALLOWED, AWAY, CALL, RECORDED, SAID, body, problem, run


def options(on_unavailable: OnUnavailable = "raise", timeout_s: float = 5.0) -> Options:
    return Options("http://gateway", timeout_s, on_unavailable, {})


def test_a_check_is_repeated_with_the_same_id_until_it_is_answered() -> None:
    (allowed, info), requests = run(steps.check(options(), CALL), AWAY, problem(503), ALLOWED)
    assert (allowed, info) == (True, ALLOWED.body)
    assert len({body(request)["request_id"] for request in requests}) == 1
    assert requests[0].pause_s == 0
    for request, usual_s in zip(requests[1:], asking.PAUSES_S, strict=False):
        assert usual_s / 2 <= request.pause_s <= usual_s * 1.5


def test_two_clients_do_not_come_back_at_the_same_moment() -> None:
    pauses = {run(steps.check(options(), CALL), AWAY, ALLOWED)[1][1].pause_s for _ in range(20)}
    assert len(pauses) > 10


def test_a_repeat_waits_as_long_as_the_service_asks_for() -> None:
    busy = Response(503, retry_after_s=2)
    _, requests = run(steps.check(options(), CALL), busy, ALLOWED)
    assert requests[1].pause_s == 2


def test_a_pause_beyond_the_timeout_is_not_begun() -> None:
    with pytest.raises(BudgetUnavailable):
        run(steps.check(options(), CALL), Response(503, retry_after_s=60))


def test_all_repeats_together_have_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(asking, "monotonic", lambda: clock[0])
    running = steps.check(options(timeout_s=5), CALL)
    first = next(running)
    clock[0] += 4
    second = running.send(AWAY)
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert first.timeout_s == 5
    assert second.timeout_s + second.pause_s == pytest.approx(1)
    clock[0] += 1
    with pytest.raises(BudgetUnavailable):
        running.send(AWAY)


def test_a_record_that_waits_for_its_cost_has_longer() -> None:
    assert run(steps.record(options(), CALL), SAID)[1][0].timeout_s == 11
    _, (request,) = run(steps.record(options(), CALL, wait=False), ACCEPTED)
    assert (request.path, request.timeout_s) == ("/api/record", 5)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("", 0),
        ("soon", 0),
        ("-1", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
    ],
)
def test_when_to_come_again_is_a_number_or_a_date(header: str, seconds: float) -> None:
    response = httpx2.Response(503, headers={"Retry-After": header})
    assert exchange.read(response).retry_after_s == seconds


def test_a_date_to_come_again_is_counted_from_now() -> None:
    header = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    response = httpx2.Response(503, headers={"Retry-After": header})
    assert 3500 < exchange.read(response).retry_after_s <= 3600


def test_a_late_answer_is_asked_for_once_more() -> None:
    (allowed, _), _requests = run(steps.check(options(), CALL), problem(504), ALLOWED)
    assert allowed
    with pytest.raises(BudgetUnavailable):
        run(steps.check(options(), CALL), problem(504), problem(504))


def test_what_is_raised_carries_the_request_id() -> None:
    with pytest.raises(BudgetUnavailable) as caught:
        run(steps.check(options(), {**CALL, "request_id": "r"}), AWAY, AWAY, AWAY, AWAY)
    assert caught.value.request_id == "r"


@pytest.mark.parametrize(("told", "allowed"), [("allow", True), ("deny", False)])
def test_an_unavailable_service_answers_what_the_client_was_told(told: OnUnavailable, allowed: bool) -> None:
    (answer, info), _ = run(steps.check(options(told), CALL), AWAY, AWAY, AWAY, AWAY)
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
        run(steps.record(options(), CALL), response)
    assert type(caught.value) is error
    assert str(caught.value) == "the reason; model: is required"


def test_a_server_error_is_not_repeated_because_it_would_come_again() -> None:
    with pytest.raises(BudgetUnavailable, match="the reason"):
        run(steps.record(options(), CALL), problem(500))


def test_a_record_gives_the_platforms_keys() -> None:
    event = {**CALL, "event_id": UUID(int=1), "context_id": "c", "task_type": "t"}
    recorded, (request,) = run(steps.record(options(), event), SAID)
    assert body(request)["event_id"] == str(UUID(int=1))
    old_keys = {"record_id": str(UUID(int=1)), "context_id": "c", "task_type": "t", "total_tokens": 7,
                "input_cost": "0.01", "output_cost": "0.02", "total_cost": "0.03", "input_tokens": 3,
                "output_tokens": 4, "timestamp": "2026-01-01T00:00:00Z", **CALL}  # fmt: skip
    assert old_keys.items() <= recorded.items()


def test_a_record_that_is_not_in_the_ledger_yet_has_no_cost() -> None:
    recorded, _ = run(steps.record(options(), {**CALL, "input_tokens": 5}), ACCEPTED)
    assert (recorded["status"], recorded["total_cost"], recorded["input_tokens"]) == ("pending", None, 5)


@pytest.mark.parametrize(("status", "error"), [("conflict", Conflict), ("rejected", Rejected)])
def test_an_event_that_the_books_refuse_is_an_error(status: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(steps.record(options(), CALL), Response(200, {"results": [{**RECORDED, "status": status}]}))


def test_values_are_written_as_json_and_none_is_left_out() -> None:
    event = {**CALL, "occurred_at": datetime(2026, 1, 1, tzinfo=UTC), "user": None,
             "reported_cost": {"amount": Decimal("0.10"), "currency": "USD"}}  # fmt: skip
    _, (request,) = run(steps.record(options(), event), SAID)
    sent = body(request)
    assert (sent["occurred_at"], sent["reported_cost"]["amount"]) == ("2026-01-01T00:00:00Z", "0.10")
    assert "user" not in sent


def test_metadata_of_a_completion_goes_into_the_tags() -> None:
    fields: Mapping[str, Any] = {**CALL, "input_text": "a", "output_text": "b", "tags": {"team": "x"}}
    _, (request,) = run(steps.record_completion(options(), fields, {"n": 1}), SAID)
    assert body(request)["tags"] == {"team": "x", "n": "1"}


def test_a_guard_settles_its_hold_with_what_the_check_said() -> None:
    guard = GuardState(options(), {**CALL, "estimated_tokens": 9, "context_id": "c"})
    run(guard.enter(), ALLOWED)
    with pytest.raises(BudgetUnavailable):
        run(guard.settle({"input_tokens": 1, "output_tokens": 2}), problem(500))
    _, (request,) = run(guard.settle({"input_tokens": 1, "output_tokens": 2}), SAID)
    sent = body(request)
    assert (sent["request_id"], sent["event_id"]) == (guard.fields["request_id"], guard.event_id)
    assert (sent["context_id"], sent["input_tokens"]) == ("c", 1)
    assert "estimated_tokens" not in sent
    with pytest.raises(RuntimeError):
        run(guard.void(None))


def test_a_denied_guard_raises_with_the_decision() -> None:
    info = {"allowed": False, "reason": "daily is used up", "hold": None}
    with pytest.raises(BudgetExceeded, match="daily is used up") as caught:
        run(GuardState(options(), CALL).enter(), Response(200, info))
    assert caught.value.info == info


def test_voiding_gives_back_only_a_hold_that_was_placed() -> None:
    held, free = GuardState(options(), CALL), GuardState(options("allow"), CALL)
    run(held.enter(), ALLOWED)
    _, (request,) = run(held.void("not sent"), Response(202, {}))
    assert (request.path, body(request)) == (
        f"/api/holds/{held.fields['request_id']}/release",
        {"reason": "not sent"},
    )
    run(free.enter(), AWAY, AWAY, AWAY, AWAY)
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
    assert exchange.options(**arguments).base_url == url


def test_the_file_of_settings_counts_where_the_environment_is_silent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env.budget").write_text("BUDGET_PORT=8099\nBUDGET_API_KEY=bdgt_file\n")
    assert exchange.options(api_key="bdgt_mine").base_url == "http://127.0.0.1:8099"
    assert exchange.options(api_key="bdgt_mine").headers["Authorization"] == "Bearer bdgt_mine"
    assert exchange.options().headers["Authorization"] == "Bearer bdgt_file"
    monkeypatch.setenv("BUDGET_API_KEY", "bdgt_environment")
    assert exchange.options().headers["Authorization"] == "Bearer bdgt_environment"


@pytest.mark.parametrize("key", ["geheim\r\nX: y", "zwei geheim", "gehéim"])
def test_what_is_no_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="BUDGET_API_KEY") as told:
        BudgetClient(api_key=key)
    assert "geh" not in str(told.value)


def test_a_word_that_is_no_answer_to_unavailability_is_refused() -> None:
    with pytest.raises(ValueError, match="'raise', 'allow' or 'deny'"):
        BudgetClient(on_unavailable="ignore")  # type: ignore[arg-type]
