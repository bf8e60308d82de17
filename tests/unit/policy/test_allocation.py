"""New percentages of allocations, all at once."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from budget_bus.errors import Rejected
from budget_bus.policy.allocation import check_percents
from budget_bus.policy.budget import Budget, LimitSpec, Unit
from budget_bus.policy.scope import Scope
from budget_bus.policy.windows import Period

ALL, CODEX, RHETOR, OTHER = (UUID(int=n) for n in range(4))


def budget(budget_id: UUID, percent: str | None = None, parent_id: UUID | None = None) -> Budget:
    spec = LimitSpec(
        name=f"budget {budget_id.int}", scope=Scope(), period=Period.DAILY, unit=Unit.COST, limit=0, currency="USD",
        parent_id=parent_id, percent=Decimal(percent) if percent else None,
    )  # fmt: skip
    return Budget(budget_id, spec, 1)


BUDGETS = {
    one.budget_id: one for one in (budget(ALL), budget(CODEX, "60", ALL), budget(RHETOR, "40", ALL), budget(OTHER))
}


@pytest.mark.parametrize(
    "percents",
    [
        pytest.param({CODEX: "40", RHETOR: "60"}, id="one grows by what another loses"),
        pytest.param({CODEX: "0.0001"}, id="what is not named stays"),
        pytest.param({CODEX: "60"}, id="all of it is given"),
    ],
)
def test_percentages_that_fit(percents: dict[UUID, str]) -> None:
    check_percents(ALL, {key: Decimal(value) for key, value in percents.items()}, BUDGETS)


@pytest.mark.parametrize(
    ("percents", "says"),
    [
        pytest.param({CODEX: "61"}, "101 % of 'budget 0'; at most 100", id="more than there is, with what stays"),
        pytest.param({OTHER: "1"}, "is no allocation of 'budget 0'", id="a budget that is none of its parts"),
    ],
)
def test_percentages_that_do_not_fit(percents: dict[UUID, str], says: str) -> None:
    with pytest.raises(Rejected, match=says):
        check_percents(ALL, {key: Decimal(value) for key, value in percents.items()}, BUDGETS)
