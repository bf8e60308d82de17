"""The limits that the settings name: made once, followed when they change, an operator's word in between stays."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import asyncpg
import pytest

from budget_bus.policy.budget import LimitSpec, Policy
from budget_bus.policy.windows import Period
from budget_bus.store.limits import list_limits, set_limit
from budget_bus.store.standing import apply_standing_limits, standing_limits
from tests.integration.books import USD, Books, usage


def _specs(daily: str | None, **allocations: str) -> list[LimitSpec]:
    parts = {name: Decimal(percent) for name, percent in allocations.items()}
    return standing_limits({Period.DAILY: daily}, parts, currency="USD", timezone="UTC")


async def _limits(pool: asyncpg.Pool) -> dict[str, int]:
    return {budget.spec.name: budget.spec.limit for budget in await list_limits(pool)}


async def test_a_limit_and_its_allocations_become_budgets(pool: asyncpg.Pool) -> None:
    await apply_standing_limits(pool, _specs("50.0", RHETOR="30", CODEX="25", OTHER="25"))
    assert await _limits(pool) == {
        "daily": 50 * USD,
        "daily rhetor (30 %)": 15 * USD,
        "daily codex (25 %)": 12_500_000_000,
        "daily other (25 %)": 12_500_000_000,
    }
    books = Books(pool)
    await books.settle(usage(), usage(component="ergon"))
    spent = {b.spec.name: (await books.balance(b))[0] for b in await list_limits(pool)}
    assert [spent[name] > 0 for name in spent] == [True, False, True, True]


async def test_an_operators_change_stays_until_the_settings_change(pool: asyncpg.Pool) -> None:
    await apply_standing_limits(pool, _specs("50"))
    (budget,) = await list_limits(pool)
    await set_limit(pool, replace(budget.spec, limit=7 * USD, policy=Policy.HARD_LIMIT), actor="ada")
    assert await apply_standing_limits(pool, _specs("50")) == []
    assert await _limits(pool) == {"daily": 7 * USD}
    await apply_standing_limits(pool, _specs("60"))
    assert await _limits(pool) == {"daily": 60 * USD}


async def test_what_the_settings_no_longer_name_is_removed(pool: asyncpg.Pool) -> None:
    await apply_standing_limits(pool, _specs("50", RHETOR="30"))
    await apply_standing_limits(pool, _specs(None))
    assert await _limits(pool) == {}


@pytest.mark.parametrize("percents", [("33.333333333", "66.666666667"), ("0.1", "99.9")])
def test_allocations_never_pass_what_they_are_parts_of(percents: tuple[str, str]) -> None:
    whole, *parts = _specs("0.000000001", A=percents[0], B=percents[1])
    assert sum(part.limit for part in parts) <= whole.limit
