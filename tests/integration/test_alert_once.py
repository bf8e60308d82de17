"""Settlers and relay are killed with -9 fifty times while thresholds are crossed: one alert for each crossing."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from budget_bus.events.topics import BUDGET_ALERTS, USAGE_RECORDED
from budget_bus.kafka import connection
from budget_bus.policy.budget import Budget, LimitSpec, Policy, Unit
from budget_bus.policy.scope import parse_scope
from budget_bus.policy.windows import Period
from budget_bus.producers import BudgetBus
from budget_bus.producers.closing import close_consumer
from budget_bus.store.limits import set_limit
from tests.integration.books import COST, usage
from tests.integration.budget_command import budget
from tests.integration.processes import Roles, installation, until

SETTLERS = ("settler-1", "settler-2", "settler-3")
RELAY_KILLS, SETTLER_KILLS = 32, 18
COMPONENTS = [f"component-{i}" for i in range(8)]
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
TOKENS = 1100  # of one `usage()`

Crossing = tuple[UUID, datetime, int]


@dataclass
class Flow:
    """Usage that goes on, a day further with each portion, so that windows and their thresholds never end."""

    roles: Roles
    bus: BudgetBus
    random: random.Random
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def run(self, over: asyncio.Event) -> None:
        """Send until *over*, never more than a few portions ahead of the ledger."""
        while not over.is_set():
            await self._send()
            await until(self._is_near, over)

    async def _send(self) -> None:
        day = FIRST_DAY + timedelta(days=len(self.sent) // 500)
        events = [
            usage(
                component=self.random.choice(COMPONENTS),
                occurred_at=(day + timedelta(seconds=self.random.randrange(86_400))).isoformat(),
            )
            for _ in range(50)
        ]
        self.sent += events
        await self.bus.record_many(events)

    async def _is_near(self) -> bool:
        return len(self.sent) - await self.recorded() < 200

    async def recorded(self) -> int:
        return int(await self.roles.pool.fetchval("SELECT count(*) FROM ledger"))


@dataclass
class Feed:
    """Everything that is on budget.alerts, from its beginning, as it comes."""

    records: list[ConsumerRecord] = field(default_factory=list)

    async def read(self, consumer: AIOKafkaConsumer, place: TopicPartition) -> None:
        consumer.assign([place])
        while True:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                self.records += records


@pytest.fixture(scope="module")
async def roles(postgres_url: str, apache_kafka: str) -> AsyncIterator[Roles]:
    with tempfile.TemporaryDirectory(prefix="budget-alerts-", ignore_cleanup_errors=True) as name:
        async with installation(postgres_url, apache_kafka, Path(name)) as roles:
            yield roles


@asynccontextmanager
async def reading_alerts(roles: Roles) -> AsyncIterator[Feed]:
    feed, place = Feed(), TopicPartition(roles.settings.topic_prefix + BUDGET_ALERTS, 0)
    consumer = AIOKafkaConsumer(**connection(roles.settings), auto_offset_reset="earliest", fetch_max_wait_ms=10)
    await consumer.start()
    reading = asyncio.create_task(feed.read(consumer, place))
    try:
        yield feed
    finally:
        reading.cancel()
        await asyncio.wait({reading})
        await close_consumer(consumer)


async def limits(roles: Roles) -> list[Budget]:
    """Budgets of several units, windows and thresholds; the flow takes each as far as it happens to get."""
    tens = tuple(range(10, 101, 10))
    specs = [
        ({}, Period.TOTAL, Unit.COST, 12_000 * COST, tuple(range(1, 101))),
        ({}, Period.MONTHLY, Unit.TOKENS, 20_000 * TOKENS, tens),
        ({}, Period.DAILY, Unit.REQUESTS, 400, (25, 50, 75, 100, 120)),
        *(({"component": name}, Period.DAILY, Unit.COST, 60 * COST, (50, 80, 100)) for name in COMPONENTS),
        *(({"component": name}, Period.HOURLY, Unit.REQUESTS, 4, (50, 100)) for name in COMPONENTS[:2]),
    ]
    return [
        (
            await set_limit(
                roles.pool,
                LimitSpec(
                    name=f"{period} {unit}",
                    scope=parse_scope(scope),
                    period=period,
                    unit=unit,
                    limit=limit,
                    currency="USD" if unit is Unit.COST else None,
                    policy=Policy.WARN,
                    thresholds=thresholds,
                ),
                actor="test",
            )
        )[0]
        for scope, period, unit, limit, thresholds in specs
    ]


async def kill_relays(roles: Roles, feed: Feed, flow: Flow) -> None:
    """
    Kill the relay again and again: when its alerts have just come, so that it may not have deleted them yet, or
    when the outbox has grown and shrunk.
    """
    for _ in range(RELAY_KILLS):
        seen = len(feed.records)
        further = flow.random.choice((1, 1, 1, flow.random.randint(2, 30)))

        async def published(count: int = seen + further) -> bool:
            return len(feed.records) >= count

        await until(published)
        await roles.restart("relay")


async def kill_settlers(roles: Roles, flow: Flow) -> None:
    """Kill all settlers, one after the other, each when the ledger has grown since; again when all own partitions."""

    async def all_own() -> bool:
        return await roles.owners(USAGE_RECORDED) == {roles.instance(name) for name in SETTLERS}

    for _ in range(SETTLER_KILLS // len(SETTLERS)):
        await until(all_own)
        for name in flow.random.sample(SETTLERS, len(SETTLERS)):
            count = await flow.recorded() + flow.random.randint(1, 150)

            async def grown(count: int = count) -> bool:
                return await flow.recorded() >= count

            await until(grown)
            await roles.restart(name)


async def test_after_fifty_kills_there_is_one_alert_for_each_crossing(roles: Roles) -> None:
    budgets = await limits(roles)
    for name in ("relay", *SETTLERS):
        await roles.start(name)
    over = asyncio.Event()
    async with BudgetBus.from_settings(roles.settings) as bus, reading_alerts(roles) as feed:
        flow = Flow(roles, bus, random.Random(50))
        with roles.explaining():
            async with asyncio.timeout(200), asyncio.TaskGroup() as group:
                flowing = group.create_task(flow.run(over))
                async with asyncio.TaskGroup() as killers:
                    killers.create_task(kill_relays(roles, feed, flow))
                    killers.create_task(kill_settlers(roles, flow))
                over.set()
                await flowing
            await until(lambda: all_recorded(flow))
            await until(lambda: nothing_waits(roles))
            expected = crossings(budgets, flow.sent)
            await until(lambda: ids_on(feed, len(expected)))
    assert roles.kills == RELAY_KILLS + SETTLER_KILLS == 50
    await assert_once(roles, feed, expected)
    await assert_sums(roles, flow.sent)


def crossings(budgets: list[Budget], events: list[dict[str, Any]]) -> Counter[Crossing]:
    """What must be alerted, by arithmetic of its own: each threshold that the sum of a window has reached."""
    each = {Unit.COST: COST, Unit.TOKENS: TOKENS, Unit.REQUESTS: 1}
    sums: Counter[tuple[UUID, datetime]] = Counter()
    for event in events:
        at = datetime.fromisoformat(event["occurred_at"])
        day = at.replace(hour=0, minute=0, second=0)
        starts = {
            Period.HOURLY: at.replace(minute=0, second=0),
            Period.DAILY: day,
            Period.MONTHLY: day.replace(day=1),
            Period.TOTAL: datetime(1970, 1, 1, tzinfo=UTC),
        }
        for one in budgets:
            if one.spec.scope.to_json().get("component") in (None, event["component"]):
                sums[one.budget_id, starts[one.spec.period]] += each[one.spec.unit]
    return Counter(
        (one.budget_id, start, percent)
        for one in budgets
        for (budget_id, start), spent in sums.items()
        if budget_id == one.budget_id
        for percent in one.spec.thresholds
        if 100 * spent >= percent * one.spec.limit
    )


async def all_recorded(flow: Flow) -> bool:
    return await flow.recorded() == len(flow.sent)


async def nothing_waits(roles: Roles) -> bool:
    return bool(await roles.pool.fetchval("SELECT NOT EXISTS (SELECT FROM outbox)"))


async def ids_on(feed: Feed, count: int) -> bool:
    return len({json.loads(record.value)["alert_id"] for record in feed.records}) >= count


async def assert_once(roles: Roles, feed: Feed, expected: Counter[Crossing]) -> None:
    """One row for each crossing, and on the topic its id: perhaps more than once, then with the same bytes."""
    rows = await roles.pool.fetch("SELECT * FROM alert")
    assert Counter((row["budget_id"], row["window_start"], row["threshold_percent"]) for row in rows) == expected
    assert len({budget_id for budget_id, _, _ in expected}) > 3
    published: dict[str, set[bytes]] = {}
    for record in feed.records:
        published.setdefault(json.loads(record.value)["alert_id"], set()).add(record.value)
    assert {alert_id: len(values) for alert_id, values in published.items()} == dict.fromkeys(published, 1)
    told = {alert_id: json.loads(value) for alert_id, (value,) in published.items()}
    assert told == {str(row["alert_id"]): row["payload"] for row in rows}
    assert len(feed.records) > len(published), "no relay died between publishing and deleting"


async def assert_sums(roles: Roles, sent: list[dict[str, Any]]) -> None:
    """Each event is counted once."""
    rows = await roles.pool.fetch(
        "SELECT component, count(*) AS requests, sum(input_tokens + output_tokens)::bigint AS tokens,"
        " sum(cost_nanos)::bigint AS cost FROM ledger GROUP BY component"
    )
    count = Counter(event["component"] for event in sent)
    assert {tuple(row) for row in rows} == {(name, n, n * TOKENS, n * COST) for name, n in count.items()}
    await budget(roles.settings, "db", "check")
