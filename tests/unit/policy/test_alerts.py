"""Thresholds: reached by what is spent, whatever it was before."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.policy.alerts import reached
from budget_bus.policy.budget import Budget, LimitSpec, Unit
from budget_bus.policy.scope import Scope
from budget_bus.policy.windows import Period


def budget(limit: int = 1000, thresholds: tuple[int, ...] = (50, 80, 100)) -> Budget:
    spec = LimitSpec("b", Scope(), Period.DAILY, Unit.TOKENS, limit, None, thresholds=thresholds)
    return Budget(uuid.uuid4(), spec, 1)


@pytest.mark.parametrize(
    ("limit", "spent", "expected"),
    [
        pytest.param(1000, 0, (), id="nothing spent reaches nothing"),
        pytest.param(1000, 499, (), id="one below half"),
        pytest.param(1000, 500, (50,), id="exactly half"),
        pytest.param(1000, 999, (50, 80), id="one below the limit"),
        pytest.param(1000, 5000, (50, 80, 100), id="far beyond reaches all"),
        pytest.param(3, 1, (), id="a third is not half: no rounding"),
        pytest.param(0, 0, (), id="a limit of 0 with nothing spent"),
        pytest.param(0, 1, (50, 80, 100), id="a limit of 0 is reached by the first amount"),
    ],
)
def test_thresholds_that_are_reached(limit: int, spent: int, expected: tuple[int, ...]) -> None:
    assert reached(budget(limit), spent, limit) == expected


def test_a_budget_without_thresholds_reaches_none() -> None:
    assert reached(budget(thresholds=()), 10**18, 1000) == ()


@given(st.integers(0, 10**6), st.integers(0, 10**7), st.integers(0, 10**7))
def test_spending_more_never_reaches_less(limit: int, spent: int, more: int) -> None:
    watched = budget(limit)
    assert set(reached(watched, spent, limit)) <= set(reached(watched, spent + more, limit))
