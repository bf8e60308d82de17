"""What the past would have cost: exact sums, each change of a proposal as a case."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from budget_bus.errors import Rejected
from budget_bus.insight.replay import Caching, Outcome, Proposal, Swap, TierChange, replay
from budget_bus.policy.scope import parse_scope
from budget_bus.providers.own import OwnPrice, price_from
from budget_bus.providers.prices import PriceBook
from tests.integration.books import COST, Books, usage
from tests.integration.clock import NOON, Clock

ALL = parse_scope({})
ONE_EACH = price_from({"input": [1_000_000, []], "output": [2_000_000, []]}, currency="USD", source="proposed")


@pytest.fixture
async def books(pool: asyncpg.Pool) -> Books:
    """Two calls of rhetor and one of ergon, a second apart, the first at noon."""
    clock = Clock()
    books = Books(pool, clock=clock)
    for component in ("rhetor", "rhetor", "ergon"):
        await books.settle(usage(component=component, occurred_at=clock().isoformat()))
        clock.turn(seconds=1)
    return books


async def replayed(books: Books, proposal: Proposal | None = None, **fields: Any) -> Outcome:
    values = {"start": NOON, "end": NOON + timedelta(days=1), "proposal": proposal or Proposal(), **fields}
    return await replay(books.pool, PriceBook(), **values)


async def test_without_a_proposal_the_past_costs_what_the_ledger_says(books: Books) -> None:
    outcome = await replayed(books)
    assert outcome.total.actual == outcome.total.simulated
    assert outcome.total.actual.cost_nanos == 3 * COST
    assert (outcome.total.actual.requests, outcome.total.actual.input_tokens) == (3, 3000)
    assert outcome.by_component["ergon"].simulated.cost_nanos == COST


async def test_only_what_occurred_in_the_range_counts(books: Books) -> None:
    outcome = await replayed(books, start=NOON + timedelta(seconds=1), end=NOON + timedelta(seconds=2))
    assert outcome.total.actual.requests == 1


@pytest.mark.parametrize(
    ("proposal", "nanos"),
    [
        # gpt-4o-mini: 0.15 and 0.60 USD per million
        (Proposal(swaps=(Swap(ALL, "openai", "gpt-4o-mini"),)), 3 * 210_000),
        (Proposal(swaps=(Swap(parse_scope({"component": "ergon"}), "openai", "gpt-4o-mini"),)), 2 * COST + 210_000),
        # half of 1,000 tokens at 1.25 instead of 2.50 USD per million
        (Proposal(caching=(Caching(ALL, 50),)), 3 * (COST - 625_000)),
        (Proposal(prices=(OwnPrice("openai", "gpt-4o", "standard", NOON, ONE_EACH),)), 3 * 1_200_000),
        (Proposal(prices=(OwnPrice("openai", "gpt-4o", "standard", NOON + timedelta(seconds=2), ONE_EACH),)),
         2 * COST + 1_200_000),
        (Proposal(tiers=(TierChange(ALL, "standard"),)), 3 * COST),
    ],
)  # fmt: skip
async def test_what_is_proposed_is_priced_to_the_nano(books: Books, proposal: Proposal, nanos: int) -> None:
    outcome = await replayed(books, proposal)
    assert outcome.total.simulated.cost_nanos == nanos
    assert outcome.total.saved_nanos == 3 * COST - nanos


async def test_a_swap_to_a_model_without_a_price_is_refused(books: Books) -> None:
    with pytest.raises(Rejected, match="no-such-model has no price"):
        await replayed(books, Proposal(swaps=(Swap(ALL, "openai", "no-such-model"),)))


async def test_a_range_of_too_many_rows_is_refused(books: Books) -> None:
    with pytest.raises(Rejected, match="has 3 rows, of which at most 2"):
        await replayed(books, max_rows=2)


async def test_what_has_no_price_stays_without_one_unless_one_is_proposed(books: Books) -> None:
    await books.settle(usage(model="no-such-model", occurred_at=NOON.isoformat()))
    assert (await replayed(books)).total.simulated.unpriced_requests == 1
    proposal = Proposal(prices=(OwnPrice("openai", "no-such-model", "standard", NOON, ONE_EACH),))
    found = (await replayed(books, proposal)).total.simulated
    assert (found.unpriced_requests, found.cost_nanos) == (0, 3 * COST + 1_200_000)
