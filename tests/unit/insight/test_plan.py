"""What is left of a budget for one component, given what the others will spend."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from budget_bus.insight.path import LEVELS, Path
from budget_bus.insight.plan import Asked, is_alone, open_fields, room
from budget_bus.policy.budget import Balance, Budget, LimitSpec, Raise, Unit
from budget_bus.policy.scope import parse_scope
from budget_bus.policy.windows import Period

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def budget(scope: Any = None, period: Period = Period.DAILY, limit: int = 1000, **fields: Any) -> Budget:
    spec = LimitSpec("b", parse_scope(scope or {}), period, Unit.TOKENS, limit, None, **fields)
    return Budget(uuid.uuid4(), spec, 1)


def others(rate: int = 10, origins: int = 99) -> Path:
    """*rate* an hour, at the highest level twice that."""
    hours = [*range(1, 100)]
    extra = [[0 if level < 0.9 else rate * hour for hour in hours] for level in LEVELS]
    return Path(NOW, hours, [rate * hour for hour in hours], extra, origins)


def asked(hours: float, confidence: float = 0.5, **fields: str) -> Asked:
    return Asked({"component": "apollo", **fields}, NOW, NOW + hours * HOUR, confidence)


TAKEN = Balance(spent=100, held=50, unconfirmed=10)


@pytest.mark.parametrize(
    ("hours", "confidence", "amount", "kept", "windows"),
    [
        pytest.param(6, 0.5, 780, 60, 1, id="now less six hours of others"),
        pytest.param(6, 0.9, 720, 120, 1, id="surer: more is kept for them"),
        pytest.param(12, 0.5, 720, 120, 1, id="until the window's end"),
        pytest.param(18, 0.5, 720 + 940, 180, 2, id="the next day's limit counts, less its six hours"),
        pytest.param(36, 0.5, 720 + 760, 360, 2, id="and less all of its hours"),
    ],
)
def test_what_may_be_planned(hours: float, confidence: float, amount: int, kept: int, windows: int) -> None:
    shared = budget()
    found = room(shared, shared.window(NOW), TAKEN, others(), asked(hours, confidence))
    assert (found.amount, found.others, found.windows, found.backed) == (amount, kept, windows, True)
    assert found.available == 840


def test_never_less_than_nothing_and_others_cannot_take_more_than_there_is() -> None:
    shared = budget(limit=200)
    found = room(shared, shared.window(NOW), TAKEN, others(100), asked(6))
    assert (found.amount, found.others, found.available) == (0, 40, 40)


def test_a_budget_of_its_own_is_all_its_own() -> None:
    own = budget({"component": "apollo"})
    assert is_alone(own, "apollo")
    found = room(own, own.window(NOW), TAKEN, None, asked(6, 0.99))
    assert (found.amount, found.others, found.backed) == (840, 0, True)


@pytest.mark.parametrize("scope", [{}, {"component": ["apollo", "codex"]}, {"component": {"not": ["codex"]}}])
def test_a_budget_for_more_than_one_has_others(scope: Any) -> None:
    assert not is_alone(budget(scope), "apollo")


def test_without_a_forecast_all_that_is_spent_is_kept_for_others_at_its_rate_and_it_says_so() -> None:
    shared = budget()
    found = room(shared, shared.window(NOW), TAKEN, None, asked(6))
    assert (found.amount, found.others, found.backed) == (790, 50, False)
    assert "no forecast with a band" in found.explanation


def test_more_confidence_than_there_are_back_tests_is_said() -> None:
    shared = budget()
    found = room(shared, shared.window(NOW), TAKEN, others(origins=20), asked(6, 0.99))
    assert "more of them are needed for 99%" in found.explanation


def test_a_raise_that_ends_before_the_plan_does_not_count() -> None:
    raised = replace(budget(), raises=(Raise(uuid.uuid4(), 500, NOW - HOUR, NOW + 3 * HOUR),))
    long, short = (room(raised, raised.window(NOW), TAKEN, others(), asked(hours)).available for hours in (6, 2))
    assert (long, short) == (840, 1340)


def test_what_was_carried_in_counts_in_this_window() -> None:
    shared = budget(rollover_cap=500)
    carried = replace(TAKEN, carried_in=300)
    assert room(shared, shared.window(NOW), carried, others(), asked(18)).amount == 720 + 300 + 940


@pytest.mark.parametrize(
    ("scope", "period", "fields", "missing"),
    [
        pytest.param({}, Period.DAILY, {}, [], id="everything"),
        pytest.param({"component": "codex"}, Period.DAILY, {}, None, id="another component's"),
        pytest.param({"provider": "openai"}, Period.DAILY, {}, ["provider"], id="only some calls"),
        pytest.param({"provider": "openai"}, Period.DAILY, {"provider": "openai"}, [], id="and these are they"),
        pytest.param({"model": "gpt-*"}, Period.DAILY, {"model": "o3"}, None, id="and these are not"),
        pytest.param({"tags": {"team": "a"}}, Period.DAILY, {}, ["tags.team"], id="by tags"),
        pytest.param({}, Period.PER_CONTEXT, {}, ["context_id"], id="a context's own"),
    ],
)
def test_which_budgets_count_what_is_planned(
    scope: Any, period: Period, fields: dict[str, str], missing: list[str] | None
) -> None:
    assert open_fields(budget(scope, period), asked(1, **fields)) == missing
