"""The limits that the settings name: made once, followed when they change, an operator's word in between stays."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from itertools import permutations

import asyncpg
import pytest

from budget_bus.errors import ConfigError
from budget_bus.policy.budget import Budget, LimitSpec, Policy, Unit
from budget_bus.policy.scope import Scope, parse_scope
from budget_bus.policy.windows import EPOCH, Period
from budget_bus.store.limits import list_limits, remove_limit, set_limit
from budget_bus.store.standing import Standing, apply_standing_limits, standing_limits
from tests.integration.books import USD, Books, usage


def _specs(daily: str | None, **allocations: str) -> list[Standing]:
    parts = {name: Decimal(percent) for name, percent in allocations.items()}
    return standing_limits({Period.DAILY: daily}, parts, currency="USD", timezone="UTC")


async def _named(pool: asyncpg.Pool) -> dict[str, Budget]:
    return {budget.spec.name: budget for budget in await list_limits(pool)}


async def _limits(pool: asyncpg.Pool) -> dict[str, int]:
    """Name -> the limit, at a moment at which nothing is raised."""
    return {name: budget.limit_at(EPOCH) for name, budget in (await _named(pool)).items()}


async def test_a_limit_and_its_allocations_become_budgets(pool: asyncpg.Pool) -> None:
    await apply_standing_limits(pool, _specs("50.0", RHETOR="30", CODEX="25", OTHER="25"))
    assert await _limits(pool) == {
        "daily": 50 * USD,
        "daily rhetor": 15 * USD,
        "daily codex": 12_500_000_000,
        "daily other": 12_500_000_000,
    }
    books = Books(pool)
    await books.settle(usage(), usage(component="ergon"))
    spent = {name: (await books.balance(budget))[0] > 0 for name, budget in (await _named(pool)).items()}
    assert spent == {"daily": True, "daily rhetor": True, "daily codex": False, "daily other": True}


async def test_an_allocation_follows_its_parent_whoever_changes_it(pool: asyncpg.Pool) -> None:
    await apply_standing_limits(pool, _specs("50", RHETOR="30"))
    daily = (await _named(pool))["daily"]
    await set_limit(pool, replace(daily.spec, limit=20 * USD), actor="ada")
    assert await _limits(pool) == {"daily": 20 * USD, "daily rhetor": 6 * USD}
    assert await apply_standing_limits(pool, _specs("50", RHETOR="30")) == []
    assert await _limits(pool) == {"daily": 20 * USD, "daily rhetor": 6 * USD}


async def test_an_operators_change_stays_until_the_settings_change(pool: asyncpg.Pool) -> None:
    await apply_standing_limits(pool, _specs("50"))
    (budget,) = await list_limits(pool)
    await set_limit(pool, replace(budget.spec, limit=7 * USD, policy=Policy.HARD_LIMIT), actor="ada")
    assert await apply_standing_limits(pool, _specs("50")) == []
    assert await _limits(pool) == {"daily": 7 * USD}
    await apply_standing_limits(pool, _specs("60"))
    assert await _limits(pool) == {"daily": 60 * USD}


@pytest.mark.parametrize("after", sorted(set(permutations(["10", "30", "60"]))), ids="/".join)
async def test_percentages_can_be_exchanged(pool: asyncpg.Pool, after: tuple[str, str, str]) -> None:
    names = ("A", "B", "OTHER")
    await apply_standing_limits(pool, _specs("100", **dict(zip(names, ("10", "30", "60"), strict=True))))
    before = {name: budget.budget_id for name, budget in (await _named(pool)).items()}
    await apply_standing_limits(pool, _specs("100", **dict(zip(names, after, strict=True))))
    limits = await _limits(pool)
    assert [limits[f"daily {name.lower()}"] for name in names] == [int(percent) * USD for percent in after]
    assert {name: budget.budget_id for name, budget in (await _named(pool)).items()} == before


async def test_a_component_that_takes_the_place_of_another_finds_room(pool: asyncpg.Pool) -> None:
    await apply_standing_limits(pool, _specs("100", RHETOR="70", OTHER="30"))
    await apply_standing_limits(pool, _specs("100", CODEX="80", OTHER="20"))
    assert await _limits(pool) == {"daily": 100 * USD, "daily codex": 80 * USD, "daily other": 20 * USD}


async def test_what_the_settings_no_longer_name_is_removed_parts_first(pool: asyncpg.Pool) -> None:
    await apply_standing_limits(pool, _specs("50", RHETOR="30"))
    lines = await apply_standing_limits(pool, _specs(None))
    assert await _limits(pool) == {}
    assert [line.split(":")[0] for line in lines] == ["budget 'daily rhetor'", "budget 'daily'"]


def _of(parent: Budget, percent: int) -> LimitSpec:
    scope = parse_scope({"user": "ann"})
    return replace(parent.spec, name="ann", scope=scope, limit=0, parent_id=parent.budget_id, percent=Decimal(percent))


async def test_a_limit_of_which_an_operator_made_allocations_is_kept_and_said(pool: asyncpg.Pool) -> None:
    await apply_standing_limits(pool, _specs("50"))
    ann, _ = await set_limit(pool, _of((await _named(pool))["daily"], 10), actor="ada")
    (line,) = await apply_standing_limits(pool, _specs(None))
    assert "'daily': kept" in line
    assert "(ann)" in line
    await remove_limit(pool, ann.budget_id, actor="ada")
    await apply_standing_limits(pool, _specs(None, RHETOR="1"))
    await apply_standing_limits(pool, _specs("1"))
    await apply_standing_limits(pool, _specs(None))
    assert await _limits(pool) == {}


async def test_an_allocation_that_finds_no_room_beside_an_operators_stops_the_start(pool: asyncpg.Pool) -> None:
    await apply_standing_limits(pool, _specs("50"))
    await set_limit(pool, _of((await _named(pool))["daily"], 40), actor="ada")
    with pytest.raises(ConfigError, match=r"'daily rhetor' .* 60 % that other allocations"):
        await apply_standing_limits(pool, _specs("50", RHETOR="70"))


async def _as_release_0_1_did(pool: asyncpg.Pool) -> None:
    """What it left behind of DAILY_BUDGET_LIMIT=50, RHETOR_ALLOCATION=30 and OTHER_ALLOCATION=20.5."""
    rows = [
        ("daily", {}, 50 * USD, "50"),
        ("daily other (20.5 %)", {"component": {"not": ["rhetor"]}}, 10_250_000_000, "10.25"),
        ("daily rhetor (30 %)", {"component": "rhetor"}, 15 * USD, "15"),
    ]
    wanted, ids = {}, []
    for name, scope, limit, text in rows:
        read = parse_scope(scope) if scope else Scope()
        spec = LimitSpec(name, read, Period.DAILY, Unit.COST, limit, "USD")
        ids.append(str((await set_limit(pool, spec, actor="settings"))[0].budget_id))
        wanted[f"daily {json.dumps(scope, sort_keys=True)} USD UTC {name}"] = text
    stored = {"wanted": wanted, "ids": ids}
    await pool.execute("INSERT INTO config (key, value) VALUES ('standing_limits', $1)", stored)


async def test_amounts_of_an_earlier_release_become_allocations(pool: asyncpg.Pool) -> None:
    await _as_release_0_1_did(pool)
    before = {budget.budget_id for budget in await list_limits(pool)}
    same = _specs("50", RHETOR="30", OTHER="20.5")
    assert len(await apply_standing_limits(pool, same)) == 2
    found = await _named(pool)
    assert {budget.budget_id for budget in found.values()} == before
    assert {found[name].spec.percent for name in ("daily rhetor", "daily other")} == {Decimal(30), Decimal("20.5")}
    await set_limit(pool, replace(found["daily"].spec, limit=10 * USD), actor="ada")
    assert await _limits(pool) == {"daily": 10 * USD, "daily rhetor": 3 * USD, "daily other": 2_050_000_000}
    assert await apply_standing_limits(pool, same) == []
    await apply_standing_limits(pool, _specs(None))
    assert await _limits(pool) == {}


async def test_what_an_operator_made_of_an_earlier_releases_amounts_stays(pool: asyncpg.Pool) -> None:
    await _as_release_0_1_did(pool)
    found = await _named(pool)
    await set_limit(pool, replace(found["daily"].spec, limit=40 * USD), actor="ada")
    await set_limit(pool, replace(found["daily rhetor (30 %)"].spec, limit=9 * USD), actor="ada")
    await apply_standing_limits(pool, _specs("50", RHETOR="30", OTHER="20.5"))
    assert await _limits(pool) == {"daily": 40 * USD, "daily rhetor (30 %)": 9 * USD, "daily other": 8_200_000_000}


@pytest.mark.parametrize("percents", [("33.3333", "66.6667"), ("0.1", "99.9")])
async def test_allocations_never_pass_what_they_are_parts_of(pool: asyncpg.Pool, percents: tuple[str, str]) -> None:
    await apply_standing_limits(pool, _specs("0.000000001", A=percents[0], B=percents[1]))
    limits = await _limits(pool)
    assert limits["daily a"] + limits["daily b"] <= limits["daily"] == 1
