"""The client's steps run by hand: no time passes and nothing is faked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from budget_bus.client.exchange import Local, Request, Response, Steps

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
SAID = Response(200, {"results": [RECORDED]})
ACCEPTED = Response(202, {"accepted": 1})


def run(running: Steps[Any], *responses: Response) -> tuple[Any, list[Request]]:
    """Feed *responses* to the steps and do their local work; what they return and all they asked for."""
    requests: list[Request] = []
    waiting = list(responses)
    answer: Any = None
    try:
        while True:
            wish = running.send(answer)
            if isinstance(wish, Local):
                answer = wish.work()
                continue
            requests.append(wish)
            if not waiting:
                pytest.fail(f"{wish} was not expected")
            answer = waiting.pop(0)
    except StopIteration as done:
        assert not waiting
        return done.value, requests


def body(request: Request) -> Any:
    return json.loads(request.content)


def problem(status: int, **more: Any) -> Response:
    return Response(status, {"type": "slug", "detail": "the reason", **more})
