"""Pauses: absolute, by scope, and over by themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from budget_bus.policy.decide import Action
from budget_bus.policy.pause import Pause, decide_paused
from budget_bus.policy.scope import Call, parse_scope

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
CALL = Call("rhetor", "openai", "gpt-4o", "remote_heavyweight", context_id="run-7")


def pause(scope: dict[str, Any], minutes: int | None = None, reason: str = "a loop") -> Pause:
    until = None if minutes is None else NOW + timedelta(minutes=minutes)
    return Pause(UUID(int=1), parse_scope(scope), reason, "ops", NOW - timedelta(hours=1), until)


@pytest.mark.parametrize(
    ("scope", "minutes", "denied"),
    [
        pytest.param({"component": "rhetor"}, None, True, id="its component, until it is resumed"),
        pytest.param({"component": "rhetor"}, 1, True, id="its component, for a minute more"),
        pytest.param({"component": "rhetor"}, 0, False, id="it ends at this very moment"),
        pytest.param({"component": "rhetor"}, -5, False, id="it has ended by itself"),
        pytest.param({}, None, True, id="everything"),
        pytest.param({"component": "codex"}, None, False, id="another component"),
        pytest.param({"context_id": "run-7"}, None, True, id="its context"),
        pytest.param({"context_id": "run-8"}, None, False, id="another context"),
        pytest.param({"component": {"not": ["rhetor"]}}, None, False, id="all components but this one"),
        pytest.param({"component": "rhetor", "model": "gpt-4*"}, None, True, id="its models"),
    ],
)
def test_a_pause_denies_what_it_is_about_while_it_holds(
    scope: dict[str, Any], minutes: int | None, denied: bool
) -> None:
    verdict = decide_paused([pause(scope, minutes)], CALL, NOW)
    assert (verdict is not None) is denied
    if verdict is not None:
        assert (verdict.action, verdict.reason, verdict.binding) == (Action.DENY, "paused: a loop", None)
        assert verdict.until == (None if minutes is None else NOW + timedelta(minutes=minutes))


def test_of_several_pauses_the_one_that_ends_last_is_named() -> None:
    found = [pause({}, 5, "short"), pause({"component": "rhetor"}, 50, "long"), pause({}, 500, "later")]
    verdict = decide_paused(found[:2], CALL, NOW)
    assert verdict is not None
    assert verdict.reason == "paused: long"
    verdict = decide_paused([*found, pause({}, None, "open")], CALL, NOW)
    assert verdict is not None
    assert (verdict.reason, verdict.until) == ("paused: open", None)


def test_a_clock_that_is_behind_the_one_of_the_pause_lets_nothing_pass() -> None:
    assert decide_paused([pause({})], CALL, NOW - timedelta(hours=2)) is not None
