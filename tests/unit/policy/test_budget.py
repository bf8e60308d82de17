"""A budget's own arithmetic: what is committed, how amounts are written, which window it follows."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.money import parse_amount
from budget_bus.policy.budget import Balance, Budget, LimitSpec, Unit
from budget_bus.policy.scope import Scope
from budget_bus.policy.windows import Period, Window


def budget(unit: Unit = Unit.COST, **spec: object) -> Budget:
    currency = "USD" if unit is Unit.COST else None
    said = LimitSpec("b", Scope(), Period.DAILY, unit, 10, currency, **spec)  # type: ignore[arg-type]
    return Budget(UUID(int=1), said, 1)


def test_held_and_unconfirmed_are_committed_as_spent_is() -> None:
    assert Balance(spent=1, held=20, unconfirmed=300).committed == 321
    assert Balance().committed == 0


@pytest.mark.parametrize(
    ("unit", "amount", "text"),
    [
        pytest.param(Unit.COST, 4_500_000, "0.0045", id="nanos as a decimal amount"),
        pytest.param(Unit.COST, -1, "-0.000000001", id="an overdrawn amount keeps its sign"),
        pytest.param(Unit.COST, 0, "0", id="nothing"),
        pytest.param(Unit.TOKENS, 4_500_000, "4500000", id="tokens as they are"),
        pytest.param(Unit.REQUESTS, 3, "3", id="requests as they are"),
    ],
)
def test_an_amount_is_written_in_the_budgets_unit(unit: Unit, amount: int, text: str) -> None:
    assert budget(unit).write(amount) == text


@given(st.integers(0, 2**63 - 1))
def test_a_written_cost_is_read_back_exactly(nanos: int) -> None:
    assert parse_amount(budget().write(nanos)) == nanos


def test_a_budget_follows_its_own_zone_week_and_month() -> None:
    at = datetime(2026, 5, 1, 20, tzinfo=UTC)
    days = budget(timezone="Asia/Kathmandu")
    assert days.window(at) == Window(datetime(2026, 5, 1, 18, 15, tzinfo=UTC), datetime(2026, 5, 2, 18, 15, tzinfo=UTC))
    spec = LimitSpec("b", Scope(), Period.WEEKLY, Unit.REQUESTS, 1, None, week_start=6)
    assert Budget(UUID(int=1), spec, 1).window(at).start == datetime(2026, 4, 26, tzinfo=UTC)
    spec = LimitSpec("b", Scope(), Period.MONTHLY, Unit.REQUESTS, 1, None, month_anchor=15)
    assert Budget(UUID(int=1), spec, 1).window(at).start == datetime(2026, 4, 15, tzinfo=UTC)
