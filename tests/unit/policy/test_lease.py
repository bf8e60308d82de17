"""How much a lease takes: a part of what is left, ever smaller, down to one call."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.policy.budget import Balance, Budget, LimitSpec, Policy, Unit
from budget_bus.policy.decide import Line, decide
from budget_bus.policy.holds import Hold, HoldState, Part, Settling, match_holds, take
from budget_bus.policy.lease import grant
from budget_bus.policy.scope import Scope
from budget_bus.policy.windows import EPOCH, Period, Window

NOW = datetime(2026, 3, 10, tzinfo=UTC)


def line(left: int, amount: int | None = 1, policy: Policy = Policy.HARD_LIMIT, *, shadow: bool = False) -> Line:
    spec = LimitSpec("b", Scope(), Period.TOTAL, Unit.TOKENS, left, None, shadow=shadow)
    return Line(Budget(UUID(int=1), spec, 1), policy, Window(EPOCH, None), Balance(), amount, left)


@pytest.mark.parametrize(
    ("lines", "calls", "expected"),
    [
        pytest.param([line(1000)], 10, 10, id="as many as asked for while there is plenty"),
        pytest.param([line(1000)], 900, 250, id="a quarter of what is left"),
        pytest.param([line(1000, 7)], 900, 35, id="counted in calls, rounded down"),
        pytest.param([line(1000), line(40)], 900, 10, id="the tightest budget decides"),
        pytest.param([line(7)], 900, 1, id="near the limit one call"),
        pytest.param([line(0)], 900, 1, id="where nothing is left the decision will say so"),
        pytest.param([line(40, policy=Policy.WARN)], 900, 10, id="a warning must reach its caller, so it is exact too"),
        pytest.param([line(40, policy=Policy.IGNORE)], 900, 900, id="an ignored budget bounds nothing"),
        pytest.param([line(40, shadow=True)], 900, 900, id="a shadow budget bounds nothing"),
        pytest.param([line(1000, None)], 900, 1, id="an unpriced model is asked about call by call"),
        pytest.param([line(1000, 0)], 900, 900, id="what costs nothing takes nothing"),
        pytest.param([], 900, 900, id="no budget"),
    ],
)
def test_how_many_calls_are_granted(lines: list[Line], calls: int, expected: int) -> None:
    assert grant(lines, calls) == expected


@given(st.integers(0, 10**6), st.integers(0, 100), st.integers(1, 10**6))
def test_more_than_one_call_always_fits(left: int, amount: int, calls: int) -> None:
    granted = grant([line(left, amount)], calls)
    assert 1 <= granted <= calls
    if granted > 1:
        assert decide([line(left, amount * granted)]).allowed


def lease(cost: int | None = 100, tokens: int = 50, calls: int = 5) -> Hold:
    amounts = (cost or 0, tokens, calls)
    return Hold(
        uuid4(), HoldState.OPEN, NOW, cost, tokens, (1, 2, 3), amounts, lease=True, calls=calls, units="ctr"
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30), st.integers(0, 2)), max_size=12))
def test_parts_taken_and_the_rest_are_the_whole(parts: list[tuple[int, int, int]]) -> None:
    rest, taken = lease(), [0, 0, 0]
    for part in parts:
        rest, off = take(rest, Part(*part))
        taken = [total + off[i + 1] for i, total in enumerate(taken)]
        assert all(amount >= 0 for amount in rest.amounts)
        assert rest.amounts == (rest.cost_nanos, rest.tokens, rest.calls)
    assert [t + a for t, a in zip(taken, rest.amounts, strict=True)] == [100, 50, 5]


def test_of_an_unpriced_lease_no_money_is_taken() -> None:
    rest, off = take(lease(cost=None), Part(7, 1, 1))
    assert (rest.cost_nanos, off) == (None, {1: 0, 2: 1, 3: 1})


def test_a_lease_is_given_to_every_event_that_names_it_and_a_hold_to_one() -> None:
    held, leased = Hold(uuid4(), HoldState.OPEN, NOW, 1, 1, (), ()), lease()
    events = [Settling(uuid4(), ("", "p", "m"), NOW, hold.request_id, None) for hold in (held, held, leased, leased)]
    given_to = match_holds(events, {held.request_id: held, leased.request_id: leased}, {})
    assert [given_to.get(event.event_id) for event in events] == [held, None, leased, leased]
