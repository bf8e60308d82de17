"""
What users of other budget services suffer from when spend is wrong, told again of this one.

Each test says whose complaint it is. Those about reading a response (streams, disconnects, cache, reasoning, ids that
differ) are in unit/providers/test_usage_complaints.py; the service tier's own price and what a router charges (gaia PR
1137) in test_reported_cost.py; a price table that is broken or loses models (litellm's incident of 2026-01-27) in
test_price_updates.py. Screens that add up only what they show (litellm #11929, #12735) cannot occur: no number here is
the sum of a page.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx2
import pytest

from budget_bus.bookkeeping.unpriced import price_unpriced
from budget_bus.policy.budget import Policy, Unit
from budget_bus.producers.responses import usage_fields
from budget_bus.providers.prices import PriceBook
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.prices import set_price
from tests.integration.books import BOUND, COST, USD, Books, check, usage

HOUSE = {"provider": "acme", "model": "house"}
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DAYS = [datetime(2026, 3, day, tzinfo=UTC) for day in (8, 9, 10, 11)]


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


async def report(client: httpx2.AsyncClient, **query: Any) -> dict[str, Any]:
    response = await client.get("/api/usage/daily", params=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_usage_without_a_price_is_never_free(books: Books, client: httpx2.AsyncClient) -> None:
    """litellm #35691, #36561; onyx PR 14947; open-bank-oss #6045, sielay/eidan #203: no price is zero, silently."""
    await books.limit(100 * USD)
    (answer,) = await books.ask(check(**HOUSE))
    assert (answer["allowed"], answer["price_status"], answer["estimated_cost"]) == (False, "unpriced", None)
    await books.settle(usage(**HOUSE))
    assert await books.pool.fetchval("SELECT cost_nanos FROM ledger") is None
    totals = (await report(client))["totals"]
    assert (totals["requests"], totals["unpriced_requests"]) == (1, 1)


async def test_an_unknown_model_is_not_priced_as_a_known_one(books: Books) -> None:
    """chopratejas/headroom #3732: unknown models were charged as GPT-4o, and the budget acted on made-up numbers."""
    budget = await books.limit(100 * USD)
    await books.settle(usage(provider="openai", model="house-of-ours"), usage(**HOUSE))
    statuses = await books.pool.fetch("SELECT DISTINCT cost_nanos, price_status FROM ledger")
    assert [tuple(row) for row in statuses] == [(None, "unpriced")]
    assert await books.balance(budget) == (0, 0, 0)


async def test_a_call_without_a_price_keeps_its_hold_and_is_charged_when_one_arrives(books: Books) -> None:
    """majiayu000/litellm-rs #831: the reservation of an unpriced model was refunded, and nothing charged."""
    money = await books.limit(100 * USD, policy=Policy.WARN)
    calls = await books.limit(10, unit=Unit.REQUESTS, name="calls")
    asked = check(**HOUSE)
    await books.ask(asked)
    assert await books.balance(calls) == (0, 1, 0)
    await books.settle(usage(**HOUSE, request_id=asked["request_id"]))
    assert await books.balance(calls) == (1, 0, 0)
    each = {"input": [1_000_000, []], "output": [1_000_000, []]}
    await set_price(books.pool, "acme", "house", each, effective_from=LONG_AGO, actor="test")
    assert await price_unpriced(books.pool, Catalogue(Policy.WARN), PriceBook()) == 1
    assert await books.balance(money) == (1_100_000, 0, 0)
    await books.assert_exact()


async def test_an_explicit_zero_is_zero(books: Books) -> None:
    """litellm #37992: output that was reported as 0 was estimated from the text instead, and billed."""
    response = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": {"content": "many words"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000},
    }
    fields = usage_fields("openai", "gpt-4o", response, component="rhetor")
    assert (fields["output_tokens"], fields.get("estimated")) == (0, None)
    await books.settle({**fields, "event_id": str(fields["event_id"])})
    assert await books.pool.fetchval("SELECT output_cost_nanos FROM ledger") == 0


async def test_one_call_that_is_told_many_times_counts_once(books: Books) -> None:
    """
    litellm #15740, #1787, PR 34675, PR 35931; gaia PR 1170: several seams log one call, counters are not deduplicated
    by its id. lago-api #5870: a retry without idempotency is charged twice.
    """
    budget, event = await books.limit(100 * USD), usage()
    await books.settle(event, event, event)
    for part in (0, 1, 0):
        await books.settle(event, usage(), part=part, by=books.settler())
    assert await books.balance(budget) == (4 * COST, 0, 0)
    await books.assert_exact()


async def test_two_settlers_that_are_told_of_one_call_at_once_count_it_once(books: Books) -> None:
    """litellm PR 34675: two replicas flush the same counter."""
    budget, event = await books.limit(100 * USD), usage()
    batches = [await books.batch("usage.recorded", [event], part=part) for part in (0, 1)]
    results = await asyncio.gather(*(books.settler().apply(b, None) for b in batches), return_exceptions=True)
    again = [batch for batch, result in zip(batches, results, strict=True) if result is not None]
    for batch in again:  # as the loop does: what another one wrote at the same moment is looked at again
        await books.settler().apply(batch, None)
    assert await books.balance(budget) == (COST, 0, 0)


async def test_a_day_has_what_happened_in_it_and_days_add_up(books: Books, client: httpx2.AsyncClient) -> None:
    """litellm #22176: day N shows N-1 and N; #10876, #8585, #8897: totals that are not the sum of their rows."""
    for number, day in enumerate(DAYS, start=1):
        edges = (day, day + timedelta(days=1, microseconds=-1))
        await books.settle(*(usage(occurred_at=at.isoformat()) for at in edges for _ in range(number)))
    days = []
    for number, day in enumerate(DAYS, start=1):
        until = (day + timedelta(days=1)).isoformat()
        totals = (await report(client, start=day.isoformat(), end=until))["totals"]
        assert totals["requests"] == 2 * number
        days.append(totals)
    whole = await report(client, start=DAYS[0].isoformat(), end=(DAYS[-1] + timedelta(days=1)).isoformat())
    for name in ("requests", "input_tokens", "output_tokens", "total_tokens"):
        assert whole["totals"][name] == sum(day[name] for day in days)
    assert Decimal(whole["totals"]["cost"]) == sum(Decimal(day["cost"]) for day in days)


async def test_two_views_of_the_same_usage_agree(books: Books, client: httpx2.AsyncClient) -> None:
    """litellm #32581: 1.3 against 34 billion tokens in two exports; #13280: rows missing in one of them."""
    callers = [(component, model) for component in ("rhetor", "codex", "ergon") for model in ("gpt-4o", "gpt-4o-mini")]
    for number, (component, model) in enumerate(callers, start=1):
        await books.settle(*(usage(component=component, model=model, user=f"u{n}") for n in range(number)))
    views = [await report(client, group_by=by) for by in ("component", "model", "user", "component,model,user")]
    for view in views:
        for name in ("requests", "total_tokens"):
            assert sum(group[name] for group in view["groups"]) == view["totals"][name]
        assert sum(Decimal(group["cost"]) for group in view["groups"]) == Decimal(view["totals"]["cost"])
        assert view["totals"] == views[0]["totals"]
    assert views[0]["totals"]["requests"] == await books.pool.fetchval("SELECT count(*) FROM ledger")


async def test_what_is_accepted_is_counted_or_a_dead_letter(books: Books, client: httpx2.AsyncClient) -> None:
    """getlago/lago #637: events were accepted and never aggregated."""
    await books.settle(usage(), {"component": "rhetor"}, usage(input_tokens=-1), b"no json", usage(), usage(**HOUSE))
    counted = (await report(client))["totals"]["requests"]
    dead = await books.pool.fetchval("SELECT count(*) FROM outbox WHERE topic = 'usage.recorded.dlq'")
    assert (counted, dead) == (3, 3)


async def test_the_smallest_calls_add_up(books: Books) -> None:
    """QuantumNous/new-api #2608: quotas in whole units, so that small calls cost nothing, or one each."""
    budget = await books.limit(100 * USD)
    await books.settle(*(usage(model="gpt-4o-mini", input_tokens=1, output_tokens=0) for _ in range(1_000)))
    assert await books.balance(budget) == (150_000, 0, 0)  # 1,000 tokens at 0.15 dollars per million


async def test_prices_per_thousand_and_per_million_are_not_confused(books: Books, client: httpx2.AsyncClient) -> None:
    """maximhq/bifrost #5243: 100 times too much; Helicone PR 4248: one unit taken for the other."""
    for model, per, factor in (("thousand", "1K", 1), ("million", "1M", 1_000)):
        price = {"input": str(Decimal("0.015") * factor), "output": str(Decimal("0.075") * factor), "per": per}
        response = await client.put("/api/providers/prices", json={"provider": "acme", "model": model, **price})
        assert response.status_code in (200, 201), response.text
        await books.settle(usage(provider="acme", model=model))
    costs = await books.pool.fetch("SELECT DISTINCT cost_nanos FROM ledger")
    assert [row["cost_nanos"] for row in costs] == [15_000_000 + 7_500_000]


async def test_anothers_variant_of_a_model_has_its_own_price(books: Books) -> None:
    """Helicone #4893: charged by another provider's variant of the model."""
    name = "llama-3.3-70b-versatile"
    await books.settle(usage(provider="groq", model=name), usage(provider="ollama", model=name))
    rows = await books.pool.fetch("SELECT provider, price_status FROM ledger ORDER BY provider")
    assert [tuple(row) for row in rows] == [("groq", "priced"), ("ollama", "free")]


async def test_what_a_hard_limit_allows_is_an_upper_bound_of_what_it_is_charged(books: Books) -> None:
    """theexperiencecompany/gaia PR 1137: flat prices under-stated spend by 44 %, so the limit came too late."""
    budget = await books.limit(BOUND)
    asked = check()
    (answer,) = await books.ask(asked)
    assert answer["allowed"]
    await books.settle(usage(request_id=asked["request_id"], input_tokens=0, output_tokens=1_000))
    assert (await books.balance(budget))[0] == BOUND  # the dearest split of the stated total
