"""Thresholds: each is crossed once on the way up, whatever the steps."""

from __future__ import annotations

from itertools import accumulate, pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.policy.alerts import crossed
from budget_bus.policy.budget import Budget, LimitSpec, Unit
from budget_bus.policy.scope import Scope
from budget_bus.policy.windows import Period


def budget(limit: int = 1000, thresholds: tuple[int, ...] = (50, 80, 100)) -> Budget:
    spec = LimitSpec("b", Scope(), Period.DAILY, Unit.TOKENS, limit, None, thresholds=thresholds)
    return Budget(UUID(int=1), spec, 1)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(0, 0, (), id="nothing spent"),
        pytest.param(0, 499, (), id="below the first"),
        pytest.param(0, 500, (50,), id="exactly the first"),
        pytest.param(499, 501, (50,), id="over the first"),
        pytest.param(500, 501, (), id="once only"),
        pytest.param(500, 799, (), id="between two"),
        pytest.param(700, 900, (80,), id="the second alone"),
        pytest.param(0, 800, (50, 80), id="two at once"),
        pytest.param(0, 5000, (50, 80, 100), id="all at once"),
        pytest.param(999, 1000, (100,), id="the limit itself"),
        pytest.param(1000, 5000, (), id="far over it, nothing more"),
        pytest.param(900, 400, (), id="on the way down nothing"),
        pytest.param(900, 900, (), id="no change, nothing"),
    ],
)
def test_a_change_crosses(before: int, after: int, expected: tuple[int, ...]) -> None:
    assert crossed(budget(), before=before, after=after) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(0, 0, (), id="nothing spent is within a limit of nothing"),
        pytest.param(0, 1, (50, 80, 100), id="the first amount reaches all"),
        pytest.param(1, 2, (), id="once only"),
    ],
)
def test_a_limit_of_0_is_reached_by_the_first_amount(before: int, after: int, expected: tuple[int, ...]) -> None:
    assert crossed(budget(0), before=before, after=after) == expected


def test_a_threshold_that_falls_between_two_units_is_reached_by_the_next_one() -> None:
    assert crossed(budget(3, (50,)), before=0, after=1) == ()
    assert crossed(budget(3, (50,)), before=1, after=2) == (50,)


def test_thresholds_above_the_limit_count_too() -> None:
    assert crossed(budget(thresholds=(120,)), before=1000, after=1200) == (120,)


def test_a_budget_without_thresholds_crosses_none() -> None:
    assert crossed(budget(thresholds=()), before=0, after=10**18) == ()


@given(
    st.integers(0, 1000),
    st.lists(st.integers(1, 200), unique=True, max_size=5).map(lambda found: tuple(sorted(found))),
    st.lists(st.integers(0, 300), max_size=20),
)
def test_on_the_way_up_each_threshold_is_crossed_once(
    limit: int, thresholds: tuple[int, ...], steps: list[int]
) -> None:
    watched = budget(limit, thresholds)
    totals = list(accumulate(steps, initial=0))
    found = [percent for before, after in pairwise(totals) for percent in crossed(watched, before=before, after=after)]
    assert found == [percent for percent in thresholds if totals[-1] and 100 * totals[-1] >= percent * limit]
