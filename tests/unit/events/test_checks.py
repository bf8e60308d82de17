"""check.requested: exactly one estimate, bounded holds, and what makes it the same question."""

from __future__ import annotations

import json
from typing import Any

import pytest

from budget_bus.errors import Rejected
from budget_bus.events.checks import CheckRequested
from budget_bus.events.decode import decode

BASE: dict[str, Any] = {
    "request_id": "0b8ad7f4-6f0e-4f0a-8f0e-3d6a1f6f2c01",
    "component": "rhetor",
    "provider": "openai",
    "model": "gpt-5",
}


def read(**fields: Any) -> CheckRequested:
    return decode(CheckRequested, json.dumps({**BASE, **fields}).encode())


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({}, "estimated_tokens", id="no estimate"),
        pytest.param({"estimated_tokens": None}, "estimated_tokens", id="null is no estimate"),
        pytest.param({"estimated_tokens": 5, "input_tokens": 5}, "input_tokens", id="a total and an input"),
        pytest.param({"estimated_tokens": 5, "input_text": "hi"}, "input_text", id="a total and a text"),
        pytest.param({"input_tokens": 5, "input_text": "hi"}, "input_text", id="an input and a text"),
        pytest.param({"max_output_tokens": 5}, "estimated_tokens", id="only an output"),
        pytest.param({"estimated_tokens": 5, "max_output_tokens": 5}, "max_output_tokens", id="a total and an output"),
        pytest.param({"estimated_tokens": -1}, "estimated_tokens", id="a negative total"),
        pytest.param({"estimated_tokens": 5, "request_id": None}, "request_id", id="no request_id"),
        pytest.param({"estimated_tokens": 5, "request_id": 17}, "request_id", id="a request_id that is a number"),
        pytest.param({"estimated_tokens": 5, "hold_ttl_s": 0}, "hold_ttl_s", id="a hold for no time"),
        pytest.param({"estimated_tokens": 5, "hold_ttl_s": 86_401}, "hold_ttl_s", id="a hold longer than a day"),
        pytest.param({"estimated_tokens": 5, "hold_ttl_s": True}, "hold_ttl_s", id="a hold for true seconds"),
        pytest.param({"estimated_tokens": 5, "hold": 1}, "hold", id="a hold of 1"),
        pytest.param({"estimated_tokens": 5, "priority": "high"}, "priority", id="an unknown priority"),
        pytest.param({"estimated_tokens": 5, "deadline": "2026-01-01T00:00:00"}, "deadline", id="a naive deadline"),
        pytest.param({"estimated_tokens": 5, "requested_at": "1970-01-01T00:00:00Z"}, "requested_at", id="from 1970"),
    ],
)
def test_a_bad_question_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected) as refused:
        read(**fields)
    assert [error.field for error in refused.value.errors] == [field]


@pytest.mark.parametrize("estimate", [{"estimated_tokens": 0}, {"input_tokens": 5}, {"input_text": ""}])
def test_one_estimate_is_enough(estimate: dict[str, Any]) -> None:
    question = read(**estimate)
    assert {name: getattr(question, name) for name in estimate} == estimate


def test_a_retry_with_another_deadline_is_the_same_question() -> None:
    first = read(estimated_tokens=5, deadline="2026-01-01T00:00:02Z", requested_at="2026-01-01T00:00:00Z")
    again = read(estimated_tokens=5, deadline="2026-01-01T00:00:09Z")
    assert first.digest() == again.digest()


@pytest.mark.parametrize(
    "change",
    [{"estimated_tokens": 6}, {"model": "gpt-5-mini"}, {"hold": False}, {"hold_ttl_s": 60}, {"tags": {"a": "1"}}],
    ids=lambda change: f"another {next(iter(change))}",
)
def test_another_content_is_another_question(change: dict[str, Any]) -> None:
    assert read(**{"estimated_tokens": 5, **change}).digest() != read(estimated_tokens=5).digest()
