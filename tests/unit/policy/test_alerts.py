"""Thresholds: reached by what is spent, whatever it was before."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.policy.alerts import crossings, reached
from budget_bus.policy.budget import Balance, Basis, Budget, LimitSpec, Reached, Unit
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


BOTH = (Basis.SPENT, Basis.COMMITTED)


def watched(*on: Basis, version: int = 1) -> Budget:
    spec = LimitSpec("b", Scope(), Period.DAILY, Unit.TOKENS, 100, None, alert_on=on)
    return Budget(uuid.uuid4(), spec, version)


@pytest.mark.parametrize(
    ("budget", "balance", "expected"),
    [
        pytest.param(watched(Basis.SPENT), Balance(60, reached=Reached(1, 0, 0)), ["spent 50 up"], id="on its way up"),
        pytest.param(watched(Basis.SPENT), Balance(60, reached=Reached(1, 50, 0)), [], id="it has said so"),
        pytest.param(
            watched(Basis.SPENT), Balance(100, reached=Reached(1, 50, 0)), ["spent 80 up", "spent 100 up"], id="two"
        ),
        pytest.param(
            watched(Basis.SPENT), Balance(10, reached=Reached(1, 80, 0)), ["spent 50 down", "spent 80 down"], id="back"
        ),
        pytest.param(
            watched(Basis.SPENT, version=2), Balance(60, reached=Reached(1, 80, 0)), ["spent 50 up", "spent 80 down"],
            id="a new limit is alerted anew, and what it no longer reaches has recovered",
        ),
        pytest.param(watched(Basis.SPENT), Balance(0, 100), [], id="held is not spent"),
        pytest.param(watched(Basis.COMMITTED), Balance(10, 40), ["committed 50 up"], id="held is committed"),
        pytest.param(watched(*BOTH), Balance(50, 30), ["spent 50 up", "committed 50 up", "committed 80 up"], id="both"),
        pytest.param(watched(), Balance(100, 100), [], id="on nothing"),
    ],
)  # fmt: skip
def test_what_a_change_crosses(budget: Budget, balance: Balance, expected: list[str]) -> None:
    found, state = crossings(budget, balance, 100)
    assert [f"{one.basis} {one.percent} {'up' if one.up else 'down'}" for one in found] == expected
    assert state.version == budget.limit_version


@given(st.lists(st.tuples(st.integers(0, 150), st.integers(0, 50)), max_size=20))
def test_what_is_remembered_is_what_is_reached(amounts: list[tuple[int, int]]) -> None:
    budget, state = watched(*BOTH), Reached()
    for spent, held in amounts:
        _, state = crossings(budget, Balance(spent, held, reached=state), 100)
        assert state.spent == max(reached(budget, spent, 100), default=0)
        assert state.committed == max(reached(budget, spent + held, 100), default=0)
        assert crossings(budget, Balance(spent, held, reached=state), 100) == ([], state)
