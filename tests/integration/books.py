"""Feeds the settler and the decider without Kafka: records made by hand, everything behind them real."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
from aiokafka import ConsumerRecord

from budget_bus.consumers.batch import Batch, Clock, utc_now
from budget_bus.consumers.checks import Decider, Rules
from budget_bus.consumers.estimates import Estimator
from budget_bus.consumers.questions import Reply
from budget_bus.consumers.usage import Settler
from budget_bus.events.topics import CHECK_REQUESTED, USAGE_RECORDED
from budget_bus.policy.budget import Budget, LimitSpec, Policy, Unit
from budget_bus.policy.scope import parse_scope
from budget_bus.policy.windows import Period, Window
from budget_bus.providers.prices import PriceBook
from budget_bus.store import balances, fence
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.fence import Advance, Claim
from budget_bus.store.limits import set_limit
from budget_bus.store.sql import queries

USD = 10**9


def usage(**fields: Any) -> dict[str, Any]:
    """A usage event: 1,000 + 100 tokens of gpt-4o, which cost 0.0035 USD."""
    event = {"event_id": str(uuid.uuid4()), "component": "rhetor", "provider": "openai", "model": "gpt-4o"}
    return {**event, "input_tokens": 1000, "output_tokens": 100, **fields}


COST = 3_500_000  # nanos of one `usage()`


def check(**fields: Any) -> dict[str, Any]:
    """A question about 1,000 tokens of gpt-4o, of which the upper bound is 0.01 USD."""
    asked = {"request_id": str(uuid.uuid4()), "component": "rhetor", "provider": "openai", "model": "gpt-4o"}
    return {**asked, "estimated_tokens": 1000, **fields}


BOUND = 10_000_000  # nanos that one `check()` holds


def record(
    topic: str,
    part: int,
    offset: int,
    value: bytes | dict[str, Any],
    headers: Sequence[tuple[str, Any]] = (),
    *,
    at: datetime | None = None,
) -> ConsumerRecord:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    now_ms = int((at or datetime.now(UTC)).timestamp() * 1000)
    return ConsumerRecord(topic, part, offset, now_ms, 0, b"rhetor", raw, 0, 6, len(raw), tuple(headers))


@dataclass(slots=True)
class Books:
    """One settler and one decider on a database, each the owner of its partitions."""

    pool: asyncpg.Pool
    rules: Rules = field(default_factory=lambda: Rules(hold_ttl_s=600, stale_after_s=30, deny_when_stale=False))
    use_fallback_price: bool = False
    clock: Clock = utc_now
    replies: list[Reply] = field(default_factory=list)
    claims: dict[tuple[str, int], Claim] = field(default_factory=dict)

    def settler(self) -> Settler:
        return Settler(self.pool, Catalogue(Policy.WARN), PriceBook(), self.clock)

    def decider(self) -> Decider:
        prices = PriceBook("15.00" if self.use_fallback_price else None)
        estimator = Estimator(prices, self.use_fallback_price, 1024)
        return Decider(self.pool, Catalogue(Policy.WARN), estimator, self.rules, self.replies.append, self.clock)

    async def claim(self, topic: str, part: int, owner: str = "test") -> Claim:
        async with self.pool.acquire() as connection:
            self.claims[topic, part] = await fence.take(connection, topic, part, owner=owner, start_offset=0)
        return self.claims[topic, part]

    async def batch(
        self, topic: str, values: Sequence[bytes | dict[str, Any]], *, part: int = 0, headers: Sequence[Any] = ()
    ) -> Batch:
        claim = self.claims.get((topic, part)) or await self.claim(topic, part)
        start = claim.next_offset
        records = [record(topic, part, start + i, value, headers, at=self.clock()) for i, value in enumerate(values)]
        return Batch(topic, records, [Advance(claim, start + len(records), self.clock())])

    def applied(self, batch: Batch) -> None:
        for move in batch.moves:
            self.claims[batch.topic, move.claim.part] = Claim(move.claim.part, move.claim.epoch, move.to_offset)

    async def settle(self, *values: bytes | dict[str, Any], part: int = 0, by: Settler | None = None) -> None:
        batch = await self.batch(USAGE_RECORDED, values, part=part)
        await (by or self.settler()).apply(batch, None)
        self.applied(batch)

    async def ask(
        self, *values: dict[str, Any], part: int = 0, by: Decider | None = None, headers: Sequence[Any] = ()
    ) -> list[dict[str, Any]]:
        if (USAGE_RECORDED, 0) not in self.claims:
            # Somebody reads usage to its end: decisions are not stale, and holds may expire.
            claim = await self.claim(USAGE_RECORDED, 0)
            async with self.pool.acquire() as connection:
                await fence.touch_watermark(connection, USAGE_RECORDED, [claim], self.clock())
        batch = await self.batch(CHECK_REQUESTED, values, part=part, headers=headers)
        before = len(self.replies)
        await (by or self.decider()).apply(batch, None)
        self.applied(batch)
        return [json.loads(reply.value) for reply in self.replies[before:]]

    async def limit(self, amount: int, **fields: Any) -> Budget:
        values: dict[str, Any] = {
            "name": "daily",
            "scope": parse_scope(fields.pop("scope", {})),
            "period": Period.DAILY,
            "unit": Unit.COST,
            "policy": Policy.HARD_LIMIT,
            **fields,
        }
        values.setdefault("currency", "USD" if values["unit"] is Unit.COST else None)
        return (await set_limit(self.pool, LimitSpec(limit=amount, **values), actor="test", now=self.clock()))[0]

    async def balance(self, budget: Budget, at: datetime | None = None) -> tuple[int, int, int]:
        """spent, held, unconfirmed of the budget's window at *at* (now); zeros if it was never used."""
        window = budget.window(at or self.clock())
        row = await self.pool.fetchrow(
            "SELECT spent, held, unconfirmed FROM balance WHERE budget_id = $1 AND window_start = $2",
            budget.budget_id,
            window.start,
        )
        return (row["spent"], row["held"], row["unconfirmed"]) if row else (0, 0, 0)

    async def assert_exact(self) -> None:
        """The books balance: a balance is the sum of the ledger and of its open holds; rollups and hours are sums."""
        catalogue = Catalogue(Policy.WARN)
        async with self.pool.acquire() as connection:
            await catalogue.refresh(connection)
            for budget in catalogue.budgets:
                for row in await connection.fetch("SELECT * FROM balance WHERE budget_id = $1", budget.budget_id):
                    kept = Window(row["window_start"], row["window_end"], row["context_id"])
                    per_context = budget.spec.period is Period.PER_CONTEXT
                    window = kept if per_context else budget.window(row["window_start"])
                    assert window == kept, budget.spec.name
                    assert row["spent"] == await balances.ledger_sum(connection, budget, window), budget.spec.name
                    held = await connection.fetchval(
                        "SELECT coalesce(sum(u.amount), 0)::bigint FROM hold h, unnest(h.balance_ids, h.amounts) AS "
                        "u (balance_id, amount) WHERE h.state = 'open' AND u.balance_id = $1",
                        row["balance_id"],
                    )
                    assert row["held"] == held, budget.spec.name
            differences = await connection.fetch(
                "SELECT bucket, sum(n) FROM ("
                " SELECT date_bin('15 minutes', occurred_at, 'epoch') AS bucket, count(*) AS n,"
                " coalesce(sum(cost_nanos), 0) AS cost, sum(input_tokens + output_tokens) AS tokens"
                " FROM ledger GROUP BY 1 UNION ALL"
                " SELECT bucket_start, -sum(requests), -sum(cost_nanos), -sum(input_tokens + output_tokens)"
                " FROM rollup GROUP BY 1) d GROUP BY bucket HAVING sum(n) <> 0 OR sum(cost) <> 0 OR sum(tokens) <> 0"
            )
            assert differences == []
            ages = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
            assert await connection.fetch(queries("admin")["hour_differences"], *ages, 1) == []
