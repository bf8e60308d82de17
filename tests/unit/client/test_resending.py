"""What was spooled goes to the service: in order, all of it, and what is refused blocks nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from budget_bus.client import AsyncBudgetClient, BudgetClient, resending, steps
from budget_bus.client.calls import GuardState
from budget_bus.client.exchange import Options, Response
from budget_bus.client.spool import LIST_EVENTS, Spool
from budget_bus.errors import BudgetUnavailable, Rejected
from budget_bus.local.ports import free_port
from tests.unit.client.driving import ACCEPTED, ALLOWED, AWAY, CALL, SAID, body, problem, run
from tests.unit.client.gateway import Answer, Asked, accepting, serving

USED: dict[str, Any] = {**CALL, "input_tokens": 3, "output_tokens": 4}
GONE = (AWAY,) * 4


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", 1_000_000)


@pytest.fixture
def options(spool: Spool) -> Options:
    return Options("http://gateway", 5.0, "raise", {}, spool)


def spooled(spool: Spool) -> list[dict[str, Any]]:
    return [json.loads(line) for line in spool.path.read_text().splitlines()]


def rejected(spool: Spool) -> list[tuple[str, str]]:
    """The ids and the reasons."""
    lines = [json.loads(line) for line in spool.rejected.read_text().splitlines()]
    return [(json.loads(line["line"])["event_id"], line["reason"]) for line in lines]


def fill(spool: Spool, *ids: str) -> None:
    for event_id in ids:
        spool.append(json.dumps({**USED, "event_id": event_id}).encode())


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(GONE, id="connection refused"),
        pytest.param((problem(503),) * 4, id="503"),
        pytest.param((problem(502),) * 4, id="502"),
        pytest.param((problem(408),) * 4, id="408"),
        pytest.param((problem(429),) * 4, id="429"),
        pytest.param((problem(504),) * 2, id="504"),
        pytest.param((Response(503, retry_after_s=60),), id="come again in a minute"),
    ],
)
def test_usage_is_kept_while_the_service_is_away(options: Options, spool: Spool, answers: tuple[Response, ...]) -> None:
    told, requests = run(steps.record(options, {**USED, "context_id": "c"}), *answers)
    assert (told["status"], told["spooled"], told["total_cost"], told["input_cost"]) == ("spooled", True, None, None)
    (event,) = spooled(spool)
    assert event == body(requests[0]) == body(requests[-1])
    assert (event["event_id"], event["occurred_at"]) == (told["event_id"], told["timestamp"])


def test_what_is_recorded_is_not_spooled(options: Options, spool: Spool) -> None:
    told, _ = run(steps.record(options, USED), SAID)
    assert (told["status"], told["spooled"], spool.size()) == ("recorded", False, 0)


@pytest.mark.parametrize("status", [422, 401, 500])
def test_what_the_service_has_refused_is_raised_and_not_kept(options: Options, spool: Spool, status: int) -> None:
    with pytest.raises((Rejected, BudgetUnavailable)):
        run(steps.record(options, USED), problem(status))
    assert spool.size() == 0


def test_a_time_and_an_id_that_the_caller_gives_stay(options: Options, spool: Spool) -> None:
    run(steps.record(options, {**USED, "event_id": "e", "occurred_at": "2026-01-01T00:00:00Z"}), *GONE)
    assert [(one["event_id"], one["occurred_at"]) for one in spooled(spool)] == [("e", "2026-01-01T00:00:00Z")]


def test_the_next_call_that_works_sends_it(options: Options, spool: Spool) -> None:
    run(steps.record(options, USED), *GONE)
    for _ in range(2):
        run(steps.record(options, USED))  # it was away a moment ago: the caller is not held up
    kept = spooled(spool)
    assert len(kept) == 3
    _, (asked, sent) = run(steps.check(options, {**CALL, "estimated_tokens": 1}), ALLOWED, ACCEPTED)
    assert (asked.path, sent.path, body(sent)) == ("/api/check", "/api/record", kept)
    assert spool.size() == 0
    assert run(steps.record(options, USED), SAID)[1][0].path == "/api/record?wait=true"


def test_after_a_moment_the_service_is_asked_again(options: Options, spool: Spool) -> None:
    run(steps.record(options, USED), *GONE)
    assert spool.rests
    spool._away_until = 0
    told, requests = run(steps.record(options, USED), SAID, ACCEPTED)
    assert (told["status"], len(requests), spool.size()) == ("recorded", 2, 0)


def test_a_call_that_works_is_not_spoilt_by_resending(
    options: Options, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    run(steps.record(options, USED), *GONE)
    (allowed, _), requests = run(steps.check(options, {**CALL, "estimated_tokens": 1}), ALLOWED, AWAY)
    assert allowed
    assert len(requests) == 2  # no repeats of what nobody waits for
    assert "could not be sent again yet" in caplog.text
    assert len(spooled(spool)) == 1
    run(steps.check(options, {**CALL, "estimated_tokens": 1}), ALLOWED)  # and not tried again at once
    spool._quiet_until = 0
    run(steps.check(options, {**CALL, "estimated_tokens": 1}), ALLOWED, ACCEPTED)
    assert spool.size() == 0


def test_a_call_does_not_wait_for_all_that_is_spooled(
    options: Options, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(resending, "monotonic", lambda: clock[0])
    fill(spool, *map(str, range(2 * LIST_EVENTS + 1)))
    original = resending._deliver

    def slowly(*arguments: Any) -> Any:
        clock[0] += 10
        return original(*arguments)

    monkeypatch.setattr(resending, "_deliver", slowly)
    _, (_, sent) = run(steps.check(options, {**CALL, "estimated_tokens": 1}), ALLOWED, ACCEPTED)
    assert [int(event["event_id"]) for event in body(sent)] == list(range(LIST_EVENTS))
    assert [int(event["event_id"]) for event in spooled(spool)] == list(range(LIST_EVENTS, 2 * LIST_EVENTS + 1))


def test_flush_sends_lists_in_order_and_says_how_many(options: Options, spool: Spool) -> None:
    fill(spool, *map(str, range(2 * LIST_EVENTS + 5)))
    count, requests = run(steps.flush(options), ACCEPTED, ACCEPTED, ACCEPTED)
    assert (count, spool.size()) == (2 * LIST_EVENTS + 5, 0)
    sent = [int(event["event_id"]) for request in requests for event in body(request)]
    assert sent == list(range(2 * LIST_EVENTS + 5))
    assert run(steps.flush(options)) == (0, [])


def test_without_a_spool_there_is_nothing_to_flush() -> None:
    assert run(steps.flush(Options("http://gateway", 5.0, "raise", {}))) == (0, [])


def test_what_was_accepted_before_the_service_went_away_is_forgotten(options: Options, spool: Spool) -> None:
    fill(spool, *map(str, range(3 * LIST_EVENTS)))
    with pytest.raises(BudgetUnavailable):
        run(steps.flush(options), ACCEPTED, *GONE)
    assert [int(event["event_id"]) for event in spooled(spool)] == list(range(LIST_EVENTS, 3 * LIST_EVENTS))


def test_what_was_not_forgotten_in_time_is_sent_again_with_its_id(options: Options, spool: Spool) -> None:
    """As after a crash between the acceptance and the removal."""
    fill(spool, "a", "b")
    running = steps.flush(options)
    answer: Any = None
    while not hasattr(wish := running.send(answer), "path"):
        answer = wish.work()
    running.close()
    _, (request,) = run(steps.flush(options), ACCEPTED)
    assert body(request) == body(wish)
    assert spool.size() == 0


def test_an_invalid_event_is_set_apart_and_blocks_nothing(options: Options, spool: Spool) -> None:
    fill(spool, "a", "b", "c", "d")
    errors = [
        {"field": "1.model", "message": "is required"},
        {"field": "1.provider", "message": "is too long"},
        {"field": "3.occurred_at", "message": "is ahead"},
    ]
    count, requests = run(steps.flush(options), problem(422, errors=errors), ACCEPTED)
    assert count == 2
    assert [event["event_id"] for event in body(requests[1])] == ["a", "c"]
    assert rejected(spool) == [("b", "model: is required; provider: is too long"), ("d", "occurred_at: is ahead")]
    assert spool.size() == 0


def test_a_list_that_is_refused_without_saying_why_is_halved(options: Options, spool: Spool) -> None:
    fill(spool, "a", "b", "c")
    # All; then a; then b and c; then b; then c.
    answers = (problem(413), ACCEPTED, problem(413), problem(413), ACCEPTED)
    count, requests = run(steps.flush(options), *answers)
    assert count == 2
    assert [event["event_id"] for event in (body(requests[i]) for i in (1, 3, 4))] == ["a", "b", "c"]
    assert rejected(spool) == [("b", "the reason")]


def test_a_client_that_is_refused_loses_nothing(options: Options, spool: Spool) -> None:
    fill(spool, "a", "b")
    for status in (401, 403, 404):
        with pytest.raises(Rejected):
            run(steps.flush(options), problem(status))
    assert len(spooled(spool)) == 2
    assert not spool.rejected.exists()


def test_a_torn_line_is_reported_and_the_others_are_sent(
    options: Options, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    fill(spool, "a")
    with spool.path.open("ab") as file:
        file.write(b'{"event_id": "b", "comp')
    fill(spool, "c")
    count, (request,) = run(steps.flush(options), ACCEPTED)
    assert (count, [event["event_id"] for event in body(request)]) == (2, ["a", "c"])
    assert "1 spooled events are refused" in caplog.text
    assert "torn" in spool.rejected.read_text()


def test_a_guard_settles_into_the_spool_and_is_closed(options: Options, spool: Spool) -> None:
    guard = GuardState(options, {**CALL, "estimated_tokens": 9})
    run(guard.enter(), ALLOWED)
    told, _ = run(guard.settle({"input_tokens": 1, "output_tokens": 2}), *GONE)
    (event,) = spooled(spool)
    assert told["spooled"]
    assert (event["request_id"], event["event_id"]) == (guard.fields["request_id"], guard.event_id)
    with pytest.raises(RuntimeError):
        run(guard.settle({"input_tokens": 1, "output_tokens": 2}))


def test_a_settling_that_is_repeated_says_the_same(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1)
    guard = GuardState(Options("http://gateway", 5.0, "raise", {}, spool), {**CALL, "estimated_tokens": 9})
    run(guard.enter(), ALLOWED)
    seen = []
    for _ in range(2):
        with pytest.raises(BudgetUnavailable, match="full"):
            run(guard.settle({"input_tokens": 1, "output_tokens": 2}), *GONE)
        spool._away_until = 0
    for _ in range(2):
        running = guard.settle({"input_tokens": 1, "output_tokens": 2})
        seen.append(next(running))
        running.close()
    assert seen[0] == seen[1]


async def test_both_clients_on_one_spool(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port, path = free_port(), tmp_path / "spool"
    with BudgetClient(port=port, timeout=0.2, spool=path) as client:
        async with AsyncBudgetClient(port=port, timeout=0.2, spool=path) as other:
            first = client.record_usage(**USED)
            second = await other.record_completion(**CALL, input_text="a", output_text="b")
            assert (first["spooled"], second["spooled"], second["total_cost"]) == (True, True, None)
            with pytest.raises(BudgetUnavailable):
                client.flush()
            with pytest.raises(BudgetUnavailable):
                await other.flush()
            with serving(port=port) as gateway:
                await other.check_budget(**CALL, estimated_tokens=1)
                third = await other.record_usage(**USED)
                assert (await other.flush(), client.flush()) == (0, 0)
    ids = [first["event_id"], second["event_id"], third["event_id"]]
    assert [event["event_id"] for event in gateway.events] == ids
    assert caplog.records == []


async def test_two_that_flush_at_once_send_each_event_once(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    fill(Spool(path, 1_000_000), *map(str, range(1500)))
    with serving() as gateway:
        clients = [AsyncBudgetClient(port=gateway.port, spool=path) for _ in range(4)]
        counts = await asyncio.gather(*(client.flush() for client in clients))
        for client in clients:
            await client.close()
    assert sorted(counts) == [0, 0, 0, 1500]
    assert [int(event["event_id"]) for event in gateway.events] == list(range(1500))


def test_a_gateway_that_comes_and_goes_gets_every_event(tmp_path: Path) -> None:
    """Every third answer works; what is counted is each event_id once."""
    turns = iter(range(10_000))

    def moody(asked: Asked) -> Answer:
        return accepting(asked) if next(turns) % 3 == 0 else (503, {"Retry-After": "0"}, {"detail": "away"})

    with serving(moody) as gateway, BudgetClient(port=gateway.port, timeout=0.03, spool=tmp_path / "spool") as client:
        told = []
        for _ in range(8):
            told.append(client.record_usage(**USED))
            assert client._options.spool is not None
            client._options.spool._away_until = 0
        gateway.answer = accepting
        client.flush()
    assert {event["event_id"] for event in gateway.events} == {one["event_id"] for one in told}
