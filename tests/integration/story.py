"""A story that the consumers live through at once, drawn from a seed: checks, usage, releases, expiries, leases."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg

from budget_bus.consumers.holds import HoldKeeper
from budget_bus.events.topics import CHECK_REQUESTED, HOLD_RELEASED, USAGE_RECORDED
from budget_bus.policy.budget import Policy, Unit
from budget_bus.policy.windows import Period
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.limits import raise_limit
from budget_bus.store.pool import retryable
from tests.integration.books import USD, Books
from tests.integration.clock import Clock

MODELS = (*("gpt-4o", "gpt-4o-mini") * 4, "house-1")  # the last has no price
COMPONENTS = ("rhetor", "ergon", "codex")


@dataclass
class Story:
    """Two deciders, two settlers and a keeper of holds, each with batches of its own in every round."""

    pool: asyncpg.Pool
    clock: Clock
    random: random.Random
    held: list[dict[str, Any]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.books = Books(self.pool, clock=self.clock)
        self.deciders = [self.books.decider(), self.books.decider()]
        self.settlers = [self.books.settler(), self.books.settler()]
        self.keeper = HoldKeeper(self.pool, Catalogue(Policy.WARN), self.clock)

    async def set_limits(self) -> None:
        """Budgets of every kind, so tight that all of them refuse sooner or later."""
        limit = self.books.limit
        await limit(3 * USD // 2, name="daily", scope={"component": "rhetor"})
        await limit(
            3 * USD // 10, name="soft", period=Period.HOURLY, policy=Policy.SOFT_LIMIT, ceiling_percent=500,
            critical_may_pass=True,
        )  # fmt: skip
        await limit(900_000, name="tokens", period=Period.TOTAL, unit=Unit.TOKENS, scope={"user": "u1"})
        parent = await limit(3 * USD, name="monthly", period=Period.MONTHLY, policy=Policy.WARN)
        await limit(
            0, name="share", period=Period.MONTHLY, parent_id=parent.budget_id, percent=Decimal(25),
            scope={"component": "ergon"},
        )  # fmt: skip
        await limit(
            USD // 10, name="carrying", period=Period.HOURLY, rollover_cap=USD // 5,
            scope={"component": "codex"},
        )  # fmt: skip
        await limit(12, name="context", period=Period.PER_CONTEXT, unit=Unit.REQUESTS, context_ttl_s=3600)
        raised = await limit(200, name="requests", unit=Unit.REQUESTS, scope={"model": "gpt-4o-mini"})
        until = self.clock.at + timedelta(hours=5)
        await raise_limit(self.pool, raised.budget_id, 60, until=until, actor="test", now=self.clock.at)

    async def live(self, rounds: int) -> None:
        """Everybody at work at once, *rounds* times; then some time passes."""
        for _ in range(rounds):
            questions = [[self._question() for _ in range(self.random.randint(5, 15))] for _ in self.deciders]
            await asyncio.gather(
                *(self._apply(self.deciders[i], CHECK_REQUESTED, asked, i) for i, asked in enumerate(questions)),
                *(self._apply(settler, USAGE_RECORDED, self._events(), i) for i, settler in enumerate(self.settlers)),
                self._apply(self.keeper, HOLD_RELEASED, self._releases(), 0),
                self._expire(),
            )
            self.held += [asked for batch in questions for asked in batch if asked.get("hold", True)]
            self.clock.turn(seconds=self.random.choice([1, 7, 30, 400, 1500]))

    async def _apply(self, consumer: Any, topic: str, values: Sequence[dict[str, Any]], part: int) -> None:
        batch = await self.books.batch(topic, values, part=part)
        while True:
            try:
                await consumer.apply(batch, None)
                break
            except Exception as error:
                if not retryable(error):
                    raise
        self.books.applied(batch)

    async def _expire(self) -> None:
        try:
            await self.keeper.expire_once()
        except Exception as error:
            if not retryable(error):
                raise

    def _question(self) -> dict[str, Any]:
        draw = self.random
        asked: dict[str, Any] = {
            "request_id": str(uuid.UUID(int=draw.getrandbits(128))),
            "component": draw.choice(COMPONENTS),
            "provider": "openai",
            "model": draw.choice(MODELS),
            "user": draw.choice(("u1", "u2")),
            "priority": draw.choice(("normal", "normal", "critical")),
            "hold_ttl_s": draw.choice((30, 600, 3600)),
            "tags": {"team": draw.choice("ab")},
        }
        if draw.random() < 0.5:
            asked["context_id"] = draw.choice("pqrs")
        if draw.random() < 0.5:
            asked |= {"input_tokens": draw.randint(10, 3000), "max_output_tokens": draw.randint(1, 800)}
        else:
            asked["estimated_tokens"] = draw.randint(1, 4000)
        kind = draw.random()
        if kind < 0.15:
            asked["lease_calls"] = draw.randint(2, 20)
        elif kind < 0.25:
            asked["hold"] = False
        return asked

    def _events(self) -> list[dict[str, Any]]:
        events = [self._event() for _ in range(self.random.randint(0, 12))]
        self.sent += events
        if self.sent and self.random.random() < 0.3:
            events.append(self.random.choice(self.sent))  # a duplicate
        return events

    def _event(self) -> dict[str, Any]:
        draw, at = self.random, self.clock.at
        late = timedelta(hours=draw.choice((2, 30))) if draw.random() < 0.1 else timedelta(0)
        event: dict[str, Any] = {
            "event_id": str(uuid.UUID(int=draw.getrandbits(128))),
            "component": draw.choice(COMPONENTS),
            "provider": "openai",
            "model": draw.choice(MODELS),
            "input_tokens": draw.randint(1, 3000),
            "output_tokens": draw.randint(0, 900),
            "occurred_at": (at - late).isoformat(),
        }
        if self.held and draw.random() < 0.7:
            asked = draw.choice(self.held[-60:])
            names = ("component", "model", "context_id", "user")
            event |= {name: asked[name] for name in names if name in asked} | {"request_id": asked["request_id"]}
            if draw.random() < 0.2:
                event["model"] = draw.choice(MODELS)  # it answered as another one
        return event

    def _releases(self) -> list[dict[str, Any]]:
        wishes = []
        for asked in self.random.sample(self.held[-40:], min(4, len(self.held))):
            wish: dict[str, Any] = {"request_id": asked["request_id"], "component": asked["component"]}
            if asked.get("lease_calls") and self.random.random() < 0.8:
                wish["unused"] = {"cost": "0.001", "tokens": 500, "requests": 1}
            wishes.append(wish)
        return wishes
