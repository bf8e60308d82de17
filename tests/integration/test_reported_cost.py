"""BUDGET_COST_SOURCE: what a provider says that it charged is booked in place of what tokens and prices come to."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from budget_bus.consumers.loop import ConsumerLoop
from budget_bus.consumers.usage import Settler
from budget_bus.policy.budget import Policy
from budget_bus.providers.prices import PriceBook
from budget_bus.roles import settler
from budget_bus.settings import Settings
from budget_bus.store.catalogue import Catalogue
from tests.integration.books import COST, USD, Books, usage

CHARGED = {"reported_cost": {"amount": "0.007000001", "currency": "USD"}}  # twice what we compute, and a nano
CHARGED_NANOS = 7_000_001
UNKNOWN = {"provider": "acme", "model": "house"}


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


def by_report(books: Books) -> Settler:
    return Settler(books.pool, Catalogue(Policy.WARN), PriceBook(), books.clock, use_reported_cost=True)


async def booked(pool: asyncpg.Pool) -> tuple[Any, ...]:
    row = await pool.fetchrow(
        "SELECT cost_nanos, input_cost_nanos, output_cost_nanos, currency, price_status, price_source FROM ledger"
    )
    assert row is not None
    return tuple(row)


async def rolled_up(pool: asyncpg.Pool) -> int:
    return int(await pool.fetchval("SELECT sum(cost_nanos) FROM rollup"))


async def test_ledger_rollup_and_balance_take_the_reported_cost(books: Books) -> None:
    budget = await books.limit(USD)
    await books.settle(usage(**CHARGED), by=by_report(books))
    # 0.0025 of the computed 0.0035 is input.
    assert await booked(books.pool) == (CHARGED_NANOS, 5_000_000, 2_000_001, "USD", "priced", "reported")
    assert await rolled_up(books.pool) == CHARGED_NANOS
    assert await books.balance(budget) == (CHARGED_NANOS, 0, 0)
    await books.assert_exact()


async def test_a_model_without_a_price_costs_what_was_reported_all_of_it_for_input(books: Books) -> None:
    budget = await books.limit(USD)
    await books.settle(usage(**UNKNOWN, **CHARGED), by=by_report(books))
    assert await booked(books.pool) == (CHARGED_NANOS, CHARGED_NANOS, 0, "USD", "priced", "reported")
    assert await books.balance(budget) == (CHARGED_NANOS, 0, 0)
    await books.assert_exact()


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({}, id="nothing reported"),
        pytest.param({"reported_cost": {"amount": "0.007", "currency": "EUR"}}, id="reported in another currency"),
    ],
)
async def test_what_is_not_reported_in_usd_keeps_the_computed_cost(books: Books, said: dict[str, Any]) -> None:
    budget = await books.limit(USD)
    await books.settle(usage(**said), by=by_report(books))
    assert (await booked(books.pool))[0] == COST
    assert await books.balance(budget) == (COST, 0, 0)


async def test_without_the_setting_the_computed_cost_is_booked(books: Books) -> None:
    budget = await books.limit(USD)
    await books.settle(usage(**CHARGED))
    assert (await booked(books.pool))[0] == COST
    assert await books.balance(budget) == (COST, 0, 0)


@pytest.mark.parametrize(("source", "nanos"), [("computed", COST), ("reported", CHARGED_NANOS)])
async def test_the_settler_role_heeds_the_setting(
    books: Books, settings: Settings, monkeypatch: pytest.MonkeyPatch, source: str, nanos: int
) -> None:
    made: list[Settler] = []

    async def idle(_: ConsumerLoop) -> None:
        return None

    def kept(*args: Any, **kwargs: Any) -> Settler:
        made.append(Settler(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr("budget_bus.roles.Settler", kept)
    monkeypatch.setattr(ConsumerLoop, "run", idle)
    async with settler(settings.model_copy(update={"cost_source": source})):
        await books.settle(usage(**CHARGED), by=made[0])
    assert (await booked(books.pool))[0] == nanos
