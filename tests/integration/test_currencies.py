"""Budgets in other currencies than prices: every event by the rates of its day, the same in SQL and in Python."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from budget_bus.bookkeeping.exchange_rates import ensure_rates, update_rates
from budget_bus.bookkeeping.restating import Restating
from budget_bus.errors import Rejected
from budget_bus.policy.budget import Budget, Policy
from budget_bus.policy.exchange import DatedRate, ExchangeRates
from budget_bus.policy.windows import Period
from budget_bus.providers.prices import PriceBook
from budget_bus.store import exchange
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.prices import set_price
from budget_bus.store.restatements import Range
from tests.integration.books import BOUND, COST, USD, Books, check, usage
from tests.integration.clock import Clock

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
YESTERDAY = NOON - timedelta(days=1)
CHF = 10**9


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool, clock=Clock(NOON))


async def publish(pool: asyncpg.Pool, currency: str, *published: tuple[date, int], open_day: date = date.min) -> int:
    return await exchange.add(pool, currency, published, first_open_day=open_day, source="test")


async def with_rates(books: Books) -> None:
    """A euro is 1.25 dollars and 0.75 francs; until yesterday it was 1.5 francs."""
    await publish(books.pool, "USD", (date(2026, 1, 1), 1_250_000_000))
    await publish(books.pool, "CHF", (date(2026, 1, 1), 1_500_000_000), (date(2026, 3, 9), 750_000_000))


async def francs(books: Books, amount: int = 100 * CHF, **fields: Any) -> Budget:
    return await books.limit(amount, currency="CHF", **fields)


async def test_usage_counts_by_the_rate_of_its_day(books: Books) -> None:
    await with_rates(books)
    budget = await francs(books, period=Period.MONTHLY)
    await books.settle(usage(occurred_at=NOON.isoformat()), usage(occurred_at=YESTERDAY.isoformat()))
    assert (await books.balance(budget))[0] == COST * 6 // 10 + COST * 12 // 10
    await books.assert_exact()


async def test_a_budget_made_later_starts_from_the_same_sum(books: Books) -> None:
    await with_rates(books)
    early = await francs(books, period=Period.MONTHLY)
    counts = random.Random(7)
    for _ in range(20):
        at = NOON - timedelta(hours=counts.randrange(0, 200))
        tokens = {"input_tokens": counts.randrange(10_000), "output_tokens": counts.randrange(10_000)}
        await books.settle(usage(occurred_at=at.isoformat(), **tokens))
    late = await francs(books, period=Period.MONTHLY, scope={"component": "rhetor"})
    assert (await books.balance(early))[0] == (await books.balance(late))[0] > 0
    await books.assert_exact()


async def test_a_check_holds_its_bound_in_the_budgets_currency_and_usage_settles_it(books: Books) -> None:
    await with_rates(books)
    budget, dollars = await francs(books), await books.limit(USD, name="dollars", scope={"component": "rhetor"})
    asked = check()
    (answer,) = await books.ask(asked)
    assert await books.balance(budget) == (0, BOUND * 6 // 10, 0)
    assert await books.balance(dollars) == (0, BOUND, 0)
    assert answer["hold"]["amount"] == "0.01"
    assert {line["currency"]: line["held"] for line in answer["budgets"]} == {"CHF": "0.006", "USD": "0.01"}
    await books.settle(usage(request_id=asked["request_id"], occurred_at=NOON.isoformat()))
    assert await books.balance(budget) == (COST * 6 // 10, 0, 0)
    await books.assert_exact()


async def test_a_hard_limit_in_another_currency_is_never_passed(books: Books) -> None:
    await with_rates(books)
    budget = await francs(books, amount=BOUND * 6)  # ten bounds
    answers = await books.ask(*(check() for _ in range(30)))
    assert sum(answer["allowed"] for answer in answers) == 10
    assert await books.balance(budget) == (0, BOUND * 6, 0)


async def test_open_holds_charge_a_budget_that_is_made_under_them(books: Books) -> None:
    await with_rates(books)
    await books.limit(USD)
    await books.ask(check())
    budget = await francs(books, scope={"component": "rhetor"})
    assert await books.balance(budget) == (0, BOUND * 6 // 10, 0)
    await books.assert_exact()


async def test_a_denial_suggests_what_fits_in_the_budgets_currency(books: Books) -> None:
    await with_rates(books)
    await francs(books, amount=6_000_000)  # 0.01 dollars
    question = {"estimated_tokens": None, "input_tokens": 1_000, "max_output_tokens": 100_000}
    (answer,) = await books.ask(check(**question))
    most = answer["suggestions"]["max_output_tokens"]
    assert (answer["allowed"], most) == (False, 750)  # 0.0025 for the input, 0.0075 for 750 tokens of output
    cheaper = answer["suggestions"]["alternatives"]
    for one in cheaper:
        (other,) = await books.ask(check(**{**question, **one, "hold": False, "estimated_cost": None}))
        assert other["allowed"], one
    (fits,) = await books.ask(check(**{**question, "max_output_tokens": most}))
    assert fits["allowed"]


async def test_a_lease_is_settled_bit_by_bit_and_wholly(books: Books) -> None:
    await publish(books.pool, "USD", (date(2026, 1, 1), 1_117_200_000))
    await publish(books.pool, "CHF", (date(2026, 1, 1), 933_300_000))
    budget = await francs(books)
    lease = check(lease_calls=3, hold_ttl_s=30)
    (answer,) = await books.ask(lease)
    calls = answer["lease"]["calls"]
    assert calls == 3
    held = [(await books.balance(budget))[1]]
    for _ in range(calls):
        await books.settle(usage(request_id=lease["request_id"], occurred_at=NOON.isoformat()))
        held.append((await books.balance(budget))[1])
        await books.assert_exact()
    assert held == sorted(held, reverse=True)
    assert held[-1] == 0


async def test_a_restatement_moves_balances_by_the_rates_of_each_day(books: Books) -> None:
    await with_rates(books)
    budget = await francs(books, period=Period.MONTHLY)
    await books.settle(usage(occurred_at=NOON.isoformat()), usage(occurred_at=YESTERDAY.isoformat()))
    rates = {"input": [1_000_000, []], "output": [1_000_000, []]}
    await set_price(books.pool, "openai", "gpt-4o", rates, effective_from=datetime(2020, 1, 1, tzinfo=UTC), actor="t")
    async with books.pool.acquire() as connection:
        work = Restating(
            connection=connection,
            catalogue=Catalogue(Policy.WARN),
            prices=PriceBook(),
            wanted=Range(),
            actor="test",
            reason="a test",
            now=books.clock,
            progress=lambda *_: None,
        )
        assert await work.run() == 2
    assert (await books.balance(budget))[0] == 1_100_000 * 6 // 10 + 1_100_000 * 12 // 10
    await books.assert_exact()


async def test_sql_and_python_round_alike(pool: asyncpg.Pool) -> None:
    numbers = random.Random(3)
    halves = [(1, 2, 1), (3, 2, 1), (5, 10, 1), (15, 10, 1), (25, 10, 1), (0, 3, 7)]
    cases = halves + [
        (numbers.randrange(10**15), numbers.randrange(1, 10**13), numbers.randrange(1, 10**13)) for _ in range(500)
    ]
    rows = await pool.fetch(
        "SELECT exchanged(n, s, t) AS even, exchanged_up(n, s, t) AS up FROM unnest($1::bigint[], $2::bigint[], "
        "$3::bigint[]) WITH ORDINALITY AS u (n, s, t, i) ORDER BY i",
        *(list(column) for column in zip(*cases, strict=True)),
    )
    day = date(2026, 1, 1)
    for (nanos, source, target), row in zip(cases, rows, strict=True):
        rates = ExchangeRates.of([("AAA", DatedRate(day, source, day)), ("BBB", DatedRate(day, target, day))])
        assert row["even"] == rates.convert(nanos, "AAA", "BBB", day)
        assert row["up"] == rates.convert(nanos, "AAA", "BBB", day, up=True)


async def test_a_rate_that_comes_late_changes_no_day_that_was_counted(books: Books) -> None:
    """Else a balance would no longer be the sum of its ledger rows."""
    await with_rates(books)
    budget = await francs(books)
    await books.settle(usage(occurred_at=NOON.isoformat()))
    tomorrow = NOON.date() + timedelta(days=1)
    assert await publish(books.pool, "CHF", (NOON.date(), 10**9), open_day=tomorrow) == 1
    await books.settle(usage(occurred_at=NOON.isoformat()))
    assert (await books.balance(budget))[0] == 2 * COST * 6 // 10
    await books.assert_exact()
    rates = await exchange.read(books.pool)
    assert rates.convert(1_250_000_000, "USD", "CHF", tomorrow) == 10**9


async def test_what_is_published_again_adds_nothing(books: Books) -> None:
    await with_rates(books)
    assert await publish(books.pool, "CHF", (date(2026, 1, 1), 7), (date(2026, 3, 9), 8)) == 0


async def test_the_wheel_serves_a_currency_when_it_is_first_asked_for(books: Books) -> None:
    await ensure_rates(books.pool, "CHF", now=NOON)
    assert set(await exchange.newest(books.pool)) == {"USD", "CHF"}
    await ensure_rates(books.pool, "CHF", now=NOON)
    assert await update_rates(books.pool, None, now=NOON) == 0
    budget = await francs(books)
    await books.settle(usage(occurred_at=NOON.isoformat()))
    assert 0 < (await books.balance(budget))[0] < COST  # in March 2026 a dollar was less than a franc


@pytest.mark.parametrize("currency", ["EUR", "CHF"])
async def test_a_budget_without_rates_is_refused(books: Books, currency: str) -> None:
    with pytest.raises(Rejected, match="no exchange rate between USD and"):
        await books.limit(CHF, currency=currency)


async def test_an_old_rate_is_named_in_the_answer(books: Books) -> None:
    await publish(books.pool, "USD", (date(2026, 3, 9), 1_250_000_000))
    await publish(books.pool, "CHF", (date(2026, 3, 1), 750_000_000))
    await francs(books)
    (answer,) = await books.ask(check())
    (warning,) = answer["warnings"]
    assert "CHF by the rate that was published on 2026-03-01, 9 days ago" in warning
    await publish(books.pool, "CHF", (date(2026, 3, 8), 750_000_000))
    (answer,) = await books.ask(check())
    assert answer["warnings"] == []
