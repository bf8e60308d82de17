"""The same events in any order, in any batches, over any partitions and more than once: the same sums, exactly."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from budget_bus.policy.budget import Policy, Unit
from budget_bus.policy.windows import Period
from budget_bus.store import reads
from tests.integration.books import USD, Books, usage

COMPONENTS = ("rhetor", "apollo", "codex")
MODELS = (("openai", "gpt-4o"), ("anthropic", "claude-3-opus"), ("nobody", "of-nobody"), ("ollama", "llama3"))
BALANCES = "SELECT budget_id, window_start, spent FROM balance WHERE spent <> 0 ORDER BY budget_id, window_start"
ROLLUPS = (
    "SELECT * FROM rollup ORDER BY bucket_start, component, provider, model, tier, task_type, user_name, context_id"
)
LEDGER = "SELECT event_id, cost_nanos, input_cost_nanos, output_cost_nanos, price_status FROM ledger ORDER BY event_id"


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


def events(chance: random.Random, count: int) -> list[dict[str, Any]]:
    """Of the last three days, with subsets, people and tasks."""
    made = []
    for _ in range(count):
        provider, model = chance.choice(MODELS)
        read = chance.randrange(1, 5000)
        made.append(
            usage(
                occurred_at=(datetime.now(UTC) - timedelta(seconds=chance.randrange(3 * 86_400))).isoformat(),
                component=chance.choice(COMPONENTS),
                provider=provider,
                model=model,
                input_tokens=read,
                output_tokens=chance.randrange(800),
                cache_read_input_tokens=chance.randrange(read),
                user=chance.choice(("ann", "bob", None)),
                task_type=chance.choice(("chat", None)),
                context_id=chance.choice(("run-1", "run-2", None)),
            )
        )
    return made


async def sums(books: Books) -> list[list[tuple[Any, ...]]]:
    return [[tuple(row) for row in await books.pool.fetch(query)] for query in (BALANCES, ROLLUPS, LEDGER)]


async def limits(books: Books) -> None:
    soft: dict[str, Any] = {"policy": Policy.WARN, "thresholds": ()}
    await books.limit(1000 * USD, name="whole", **soft)
    await books.limit(10**12, name="tokens", unit=Unit.TOKENS, period=Period.HOURLY, **soft)
    await books.limit(10**6, name="requests", unit=Unit.REQUESTS, period=Period.MONTHLY, **soft)
    for component in COMPONENTS:
        await books.limit(1000 * USD, name=component, scope={"component": component}, **soft)


@pytest.mark.parametrize("seed", range(4))
async def test_order_batches_partitions_and_repetitions_change_no_sum(books: Books, seed: int) -> None:
    chance = random.Random(seed)
    await limits(books)
    said = events(chance, 120)
    await books.settle(*said)
    expected = await sums(books)
    await books.pool.execute("TRUNCATE ledger, rollup, rollup_hour, balance")
    repeated = said + chance.sample(said, 40)
    chance.shuffle(repeated)
    keepers = [books.settler(), books.settler()]
    while repeated:
        some = [repeated.pop() for _ in range(min(len(repeated), chance.randrange(1, 30)))]
        await books.settle(*some, part=chance.randrange(3), by=chance.choice(keepers))
    assert await sums(books) == expected
    await books.assert_exact()


async def test_children_add_up_to_their_parent_to_the_last_digit(books: Books) -> None:
    await limits(books)
    await books.settle(*events(random.Random(99), 200))
    rows = await books.pool.fetch(
        "SELECT b.name, l.window_start, l.spent FROM balance l JOIN budget b USING (budget_id) WHERE b.unit = 'cost'"
    )
    whole: dict[datetime, int] = defaultdict(int)
    for row in rows:
        whole[row["window_start"]] += row["spent"] if row["name"] == "whole" else -row["spent"]
    assert set(whole.values()) == {0}
    now = datetime.now(UTC)
    # Edges off the quarter of an hour, so that rollups and ledger are both read.
    start, end = now - timedelta(days=2, minutes=7), now - timedelta(minutes=4)
    (total,) = await reads.usage(books.pool, start, end, group_by=(), filters={})
    numbers = ("requests", "input_tokens", "output_tokens", "cost_nanos", "unpriced_requests")
    for group_by in (("component",), ("provider", "model"), ("user",), ("task_type",), ("context_id",), reads.GROUPS):
        groups = await reads.usage(books.pool, start, end, group_by=group_by, filters={})
        assert len(groups) > 1
        for name in numbers:
            assert sum(getattr(group, name) for group in groups) == getattr(total, name), (group_by, name)
    parts = [start + (end - start) * i / 7 for i in range(8)]
    pieces = [
        one
        for begin, stop in pairwise(parts)
        for one in await reads.usage(books.pool, begin, stop, group_by=(), filters={})
    ]
    for name in numbers:
        assert sum(getattr(piece, name) for piece in pieces) == getattr(total, name), name
    assert total.requests > 50
