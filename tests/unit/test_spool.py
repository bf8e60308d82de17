"""The spool alone: order, torn lines, its limit, and that a crash while sending loses nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from budget_bus.client import steps
from budget_bus.client.spool import AT_ONCE, Spool
from budget_bus.client.steps import Request, Response
from budget_bus.errors import BudgetUnavailable, Unauthorized

AWAY = BudgetUnavailable("away")
CALL: dict[str, Any] = {"component": "rhetor", "provider": "openai", "model": "gpt-4o", "input_tokens": 1}
RECORDED = {"event_id": "x", "status": "recorded", "cost": "1"}


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "usage.jsonl")


def kept(spool: Spool) -> list[Any]:
    with spool.sending() as batches:
        assert batches is not None
        return [event["n"] for batch in batches for event in batch]


def answer(running: Any, *responses: Response | None) -> tuple[Any, list[Request]]:
    """Drive steps with *responses*; None is an answer that fits the request."""
    asked = []
    waiting = [*responses]
    try:
        request = next(running)
        while True:
            asked.append(request)
            response = waiting.pop(0) if waiting else None
            if response is None:
                one = isinstance(json.loads(request.content), dict)
                response = Response(200, {"results": [RECORDED]}) if one else Response(202, {"accepted": 1})
            request = running.send(response)
    except StopIteration as done:
        return done.value, asked


def away(count: int = 4) -> list[Response]:
    return [Response(failure="refused")] * count


def test_what_was_kept_comes_back_once_in_its_order(spool: Spool) -> None:
    for n in range(3):
        spool.append({"n": n}, None)
    assert spool.waiting
    assert kept(spool) == [0, 1, 2]
    assert not spool.waiting


def test_an_error_while_sending_keeps_everything_and_later_events_come_after(spool: Spool) -> None:
    spool.append({"n": 1}, None)
    with suppress(ZeroDivisionError), spool.sending() as batches:
        assert batches
        assert next(iter(batches)) == [{"n": 1}]
        raise ZeroDivisionError
    spool.append({"n": 2}, None)
    assert [kept(spool), kept(spool)] == [[1], [2]]


def test_a_torn_line_spoils_no_other(spool: Spool) -> None:
    spool.append({"n": 1}, None)
    with spool.path.open("ab") as file:
        file.write(b'{"n": 2, "compo')
    spool.append({"n": 3}, None)
    assert kept(spool) == [1, 3]


def test_threads_share_it_without_losing_or_tearing_anything(spool: Spool) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: spool.append({"n": n, "text": "x" * 5000}, None), range(200)))
    assert sorted(kept(spool)) == [*range(200)]


def test_only_one_sends_at_a_time(spool: Spool) -> None:
    spool.append({"n": 1}, None)
    with spool.sending(), Spool(spool.path).sending() as other:
        assert other is None


def test_lists_fit_a_request(spool: Spool) -> None:
    for n in range(AT_ONCE + 1):
        spool.append({"n": n}, None)
    with spool.sending() as batches:
        assert batches is not None
        assert [len(batch) for batch in batches] == [AT_ONCE, 1]
    for n in range(3):
        spool.append({"n": n, "text": "x" * 1_500_000}, None)
    with spool.sending() as batches:
        assert batches is not None
        assert [len(batch) for batch in batches] == [1, 1, 1]


def test_a_full_spool_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "usage.jsonl", limit_bytes=100)
    spool.append({"n": 1}, None)
    with pytest.raises(BudgetUnavailable, match="is full"):
        spool.append({"n": 2, "text": "x" * 100}, AWAY)
    assert kept(spool) == [1]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BudgetUnavailable, match="cannot be written"):
        Spool(tmp_path / "nowhere" / "usage.jsonl").append({"n": 1}, AWAY)


def test_usage_is_kept_while_the_service_is_away_and_sent_with_the_next(spool: Spool) -> None:
    told, asked = answer(steps.record(CALL, spool), *away())
    assert (told["status"], told["spooled"], told["total_cost"]) == ("spooled", True, None)
    assert spool.resting
    _, none = answer(steps.record(CALL, spool))
    assert none == []  # it was away a moment ago: the caller is not held up
    spool._away_until_s = 0
    told, asked = answer(steps.record(CALL, spool))
    assert (told["status"], told["spooled"]) == ("recorded", False)
    assert [type(json.loads(request.content)) for request in asked] == [dict, list]
    assert len(json.loads(asked[1].content)) == 2
    assert not spool.waiting


def test_what_is_sent_again_is_what_was_sent_at_first(spool: Spool) -> None:
    _, tried = answer(steps.record(CALL, spool), *away())
    _, sent = answer(steps.flush(spool))
    assert json.loads(sent[0].content) == [json.loads(tried[0].content)]
    assert json.loads(tried[0].content)["occurred_at"]


def test_a_flush_that_gets_no_answer_keeps_everything(spool: Spool) -> None:
    spool.append({"n": 1}, None)
    with pytest.raises(BudgetUnavailable):
        answer(steps.flush(spool), *away())
    with pytest.raises(Unauthorized):
        answer(steps.flush(spool), Response(401, {"detail": "no"}))
    assert kept(spool) == [1]


def test_what_the_service_refuses_is_put_aside_and_the_rest_is_sent(spool: Spool) -> None:
    for n in range(3):
        spool.append({"n": n}, None)
    refused = Response(422, {"detail": "invalid input", "errors": [{"field": "n", "message": "is odd"}]})
    taken = Response(202, {"accepted": 1})
    sent, asked = answer(steps.flush(spool), refused, taken, refused, taken)
    assert (sent, len(asked), spool.waiting) == (2, 4, False)
    (line,) = Path(f"{spool.path}.rejected").read_text().splitlines()
    assert json.loads(line)["event"] == {"n": 1}
    assert "is odd" in json.loads(line)["reason"]


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_busy_service_is_away_and_refuses_nothing(spool: Spool, status: int) -> None:
    spool.append({"n": 1}, None)
    with pytest.raises(BudgetUnavailable):
        answer(steps.flush(spool), *[Response(status, {"detail": "later"})] * 4)
    assert kept(spool) == [1]


def test_without_a_spool_nothing_is_hidden() -> None:
    with pytest.raises(BudgetUnavailable):
        answer(steps.record(CALL), *away())


def test_a_service_that_says_when_is_asked_then() -> None:
    busy = Response(503, {"detail": "busy"}, retry_after_s=1.5)
    _, asked = answer(steps.record(CALL), busy, busy)
    assert [request.pause_s for request in asked] == [0.0, 1.5, 1.5]
