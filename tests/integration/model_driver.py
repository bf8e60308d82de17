"""Makes one thing happen to the real books and to the model of them, through a disaster now and then, and compares."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from aiokafka import ConsumerRecord

from budget_bus.consumers.batch import Batch, is_applied
from budget_bus.consumers.holds import HoldKeeper
from budget_bus.errors import Fenced, Rejected
from budget_bus.events.topics import CHECK_REQUESTED, HOLD_EXTENDED, HOLD_RELEASED, USAGE_RECORDED
from budget_bus.policy.budget import LimitSpec, Policy, Unit
from budget_bus.policy.scope import parse_scope
from budget_bus.policy.windows import Period
from budget_bus.store import fence
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.fence import Advance
from budget_bus.store.limits import end_raises, raise_limit, remove_limit, set_limit
from tests.integration.books import Books
from tests.integration.model import Budget, Model

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PARTS = {USAGE_RECORDED: 2, CHECK_REQUESTED: 2, HOLD_RELEASED: 1, HOLD_EXTENDED: 1}
# What befalls a batch. A number: the database goes away at that statement, or at the commit if there are fewer.
DISASTERS = [None, None, None, None, None, None, 2, 6, 99, "answer lost", "taken over", "applied again"]
STEP_OF = {"cost": 10_000_000, "tokens": 1000, "requests": 1}  # what a question about 1,000 tokens holds
_KEPT = ("catalogue", "migration", "rollup_folded")
_STATE = """
SELECT (SELECT array_agg((budget_id, window_start, spent, held, unconfirmed)) FROM balance) AS balances,
       (SELECT array_agg((request_id, state, expires_at)) FROM hold) AS holds,
       (SELECT count(*) FROM ledger) AS events, (SELECT count(*) FROM decision) AS decisions
"""
_STATEMENTS = ("execute", "executemany", "fetch", "fetchrow", "fetchval", "copy_records_to_table")


async def tables_of(pool: asyncpg.Pool) -> str:
    """The tables that an example begins without rows, for TRUNCATE."""
    rows = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return ", ".join(row["tablename"] for row in rows if row["tablename"] not in _KEPT)


class Failing:
    """A pool whose connections fail at a statement, at the latest at the commit; or only after it, if it *commits*."""

    def __init__(self, pool: asyncpg.Pool, statements: int, *, commits: bool = False) -> None:
        self.pool, self.left, self.commits = pool, statements, commits

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Failing]:
        async with self.pool.acquire() as self.connection:
            yield self

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self.connection.transaction():
            yield
            if not self.commits:
                raise ConnectionResetError("before the commit")
        raise ConnectionResetError("the commit's answer is lost")

    def __getattr__(self, name: str) -> Any:
        if name in _STATEMENTS and not self.commits:
            self.left -= 1
            if self.left <= 0:
                raise ConnectionResetError(f"at {name}")
        return getattr(self.connection, name)


@dataclass
class Driver:
    """The real books and the model of them, at the same point of the same story."""

    pool: asyncpg.Pool
    now: datetime
    tally: Counter[str]
    model: Model = field(default_factory=Model)
    answers: dict[str, bytes] = field(default_factory=dict)
    logs: dict[tuple[str, int], list[ConsumerRecord]] = field(default_factory=lambda: defaultdict(list))
    consumers: dict[tuple[str, int], Any] = field(default_factory=dict)
    watermarks: dict[int, datetime] = field(default_factory=lambda: {0: EPOCH, 1: EPOCH})

    def __post_init__(self) -> None:
        self.books = Books(self.pool, clock=lambda: self.now)
        self.keeper = self._consumer(HOLD_RELEASED)

    async def begin(self, tables: str) -> None:
        """Empty books; each partition has its owner."""
        await self.pool.execute(f"TRUNCATE {tables}; UPDATE catalogue SET version = version + 1")
        for topic, parts in PARTS.items():
            for part in range(parts):
                await self.books.claim(topic, part)
                self.consumers[topic, part] = self._consumer(topic)

    def _consumer(self, topic: str) -> Any:
        if topic == USAGE_RECORDED:
            return self.books.settler()
        if topic == CHECK_REQUESTED:
            return self.books.decider()
        return HoldKeeper(self.pool, Catalogue(Policy.WARN), self.books.clock)

    async def ask(self, values: Sequence[dict[str, Any]], part: int, disaster: Any) -> None:
        replies = await self._feed(CHECK_REQUESTED, part, values, disaster)
        expected = self.model.ask(list(values), self.now)
        if disaster == "answer lost":
            assert replies == []
            replies = await self._feed(CHECK_REQUESTED, part, values, None)
            expected = self.model.ask(list(values), self.now)
        self._hear(values, expected, replies)

    def _hear(self, values: Sequence[dict[str, Any]], expected: Sequence[str], replies: Sequence[Any]) -> None:
        """The answers are the model's, and those to questions that were decided before the same bytes."""
        for asked, outcome, reply in zip(values, expected, replies, strict=True):
            assert dict(reply.headers).get("error") == (b"conflict" if outcome == "conflict" else None)
            answer = json.loads(reply.value)
            self.tally[f"answered {outcome}"] += 1
            if outcome in ("released", "expired"):
                assert (answer["allowed"], answer["reason"]) == (False, outcome)
            elif outcome != "conflict" and asked["request_id"] in self.answers:
                assert reply.value == self.answers[asked["request_id"]]
            elif outcome != "conflict":
                assert answer["action"] == outcome, answer
                assert (answer["hold"] is not None) == (outcome != "deny" and asked.get("hold", True))
                self.answers[asked["request_id"]] = reply.value

    async def settle(self, values: Sequence[dict[str, Any]], part: int, disaster: Any) -> None:
        await self._feed(USAGE_RECORDED, part, values, disaster)
        self.model.settle(_events(self.logs[USAGE_RECORDED, part][-len(values) :]))

    async def release(self, wishes: Sequence[dict[str, Any]], disaster: Any) -> None:
        await self._feed(HOLD_RELEASED, 0, wishes, disaster)
        for wish in wishes:
            self.model.release(wish)

    async def extend(self, wishes: Sequence[dict[str, Any]], disaster: Any) -> None:
        await self._feed(HOLD_EXTENDED, 0, wishes, disaster)
        for wish in wishes:
            self.model.extend(wish, self.now)

    async def _feed(self, topic: str, part: int, values: Sequence[dict[str, Any]], disaster: Any) -> Sequence[Any]:
        """Apply *values* as one batch, through *disaster*; returns the replies."""
        self.now += timedelta(seconds=1)
        batch = await self.books.batch(topic, values, part=part)
        self.logs[topic, part] += batch.records
        # How far usage is read is told apart from the batches, so that it can stay behind.
        return await self._apply(part, replace(batch, moves=[replace(batch.moves[0], watermark_at=EPOCH)]), disaster)

    async def _apply(self, part: int, batch: Batch, disaster: Any = None) -> Sequence[Any]:
        replies, consumer = self.books.replies, self.consumers[batch.topic, part]
        replies.clear()
        if disaster is not None:
            self.tally[disaster if isinstance(disaster, str) else "crash"] += 1
        if disaster == "taken over":
            successor = self.consumers[batch.topic, part] = self._consumer(batch.topic)
            claim = await self.books.claim(batch.topic, part, owner="successor")
            await self._is_fenced(consumer, batch)
            consumer, batch = successor, replace(batch, moves=[replace(batch.moves[0], claim=claim)])
        elif disaster == "answer lost":
            error = await self._fails(consumer, consumer.apply, batch, None, commits=True)
            assert await is_applied(self.pool, batch, error)
            self.books.applied(batch)
            return replies
        elif isinstance(disaster, int):
            error = await self._fails(consumer, consumer.apply, batch, None, statements=disaster)
            assert not await is_applied(self.pool, batch, error)
            assert replies == []
            await self.agree()
        await consumer.apply(batch, None)
        self.books.applied(batch)
        if disaster == "applied again":
            await self._is_fenced(consumer, batch)
        return replies

    async def _is_fenced(self, consumer: Any, batch: Batch) -> None:
        heard = len(self.books.replies)
        with pytest.raises(Fenced):
            await consumer.apply(batch, None)
        assert len(self.books.replies) == heard

    async def _fails(
        self, consumer: Any, work: Callable[..., Any], *arguments: Any, statements: int = 0, commits: bool = False
    ) -> Exception:
        consumer.pool = Failing(self.pool, statements, commits=commits)
        with pytest.raises(ConnectionResetError) as caught:
            await work(*arguments)
        consumer.pool = self.pool
        return caught.value

    async def expire(self, disaster: Any) -> None:
        if disaster == "answer lost":
            await self._fails(self.keeper, self.keeper.expire_once, commits=True)
        elif disaster is not None:
            await self._fails(self.keeper, self.keeper.expire_once, statements=disaster)
        if disaster != "answer lost":
            ended = await self.keeper.expire_once()
            assert ended == self.model.expire(min(self.watermarks.values()))
            self.tally["holds that ended"] += ended
        else:
            self.model.expire(min(self.watermarks.values()))
            assert await self.keeper.expire_once() == 0

    async def read_to(self, lags: Sequence[int | None]) -> None:
        """Usage is read up to so many seconds ago, by partition; None: nothing new is known of it."""
        async with self.pool.acquire() as connection:
            for part, lag in enumerate(lags):
                if lag is not None:
                    at = self.now - timedelta(seconds=lag)
                    claim = self.books.claims[USAGE_RECORDED, part]
                    await fence.touch_watermark(connection, USAGE_RECORDED, [claim], at)
                    self.watermarks[part] = max(self.watermarks[part], at)

    def in_force(self) -> list[UUID]:
        return [budget_id for budget_id, budget in self.model.budgets.items() if budget.in_force]

    async def set_budget(self, budget: Budget, budget_id: UUID | None = None) -> None:
        """Make a budget, or change the one named or of the same identity; not to be another's twin."""
        spec = LimitSpec(
            name="drawn",
            scope=parse_scope(budget.scope),
            period=Period(budget.period),
            unit=Unit(budget.unit),
            limit=budget.limit,
            currency="USD" if budget.unit == "cost" else None,
            policy=Policy(budget.policy),
            ceiling_percent=budget.ceiling,
            shadow=budget.shadow,
            critical_may_pass=budget.critical_may_pass,
        )
        same = [i for i in self.in_force() if _identity(self.model.budgets[i]) == _identity(budget)]
        if budget_id and same and same != [budget_id]:
            with pytest.raises(Rejected):
                await set_limit(self.pool, spec, actor="test", budget_id=budget_id, now=self.now)
            return
        made, created = await set_limit(self.pool, spec, actor="test", budget_id=budget_id, now=self.now)
        assert created == (not budget_id and not same)
        assert created or made.budget_id == (budget_id or same[0])
        if not created:
            budget.raises = self.model.budgets[made.budget_id].raises
        self.model.set_budget(made.budget_id, budget, self.now)

    async def change_budget(self, pick: int, times: int | None, policy: str | None, period: str | None) -> None:
        budget_id = self.in_force()[pick % len(self.in_force())]
        was = self.model.budgets[budget_id]
        limit = was.limit if times is None else times * STEP_OF[was.unit]
        budget = replace(was, limit=limit, policy=policy or was.policy, period=period or was.period)
        await self.set_budget(
            replace(budget, ceiling=was.ceiling if budget.policy == "SOFT_LIMIT" else None), budget_id
        )

    async def remove_budget(self, pick: int) -> None:
        budget_id = self.in_force()[pick % len(self.in_force())]
        await remove_limit(self.pool, budget_id, actor="test")
        self.model.budgets[budget_id].in_force = False

    async def raise_budget(self, pick: int, times: int, pause: timedelta) -> None:
        budget_id = self.in_force()[pick % len(self.in_force())]
        budget, until = self.model.budgets[budget_id], self.now + pause
        amount = times * STEP_OF[budget.unit]
        await raise_limit(self.pool, budget_id, amount, until=until, actor="test", now=self.now)
        budget.raises.append((amount, self.now, until))

    async def end_raises(self, pick: int) -> None:
        budget_id = self.in_force()[pick % len(self.in_force())]
        await end_raises(self.pool, budget_id, actor="test", now=self.now)
        self.tally["raises ended"] += 1
        raises = self.model.budgets[budget_id].raises
        raises[:] = [(amount, begin, min(end, max(begin, self.now))) for amount, begin, end in raises]

    async def replay(self, pick: int) -> None:
        """Read a partition again from its beginning, in one batch: all of it is known, and nothing changes."""
        (topic, part), log = list(self.logs.items())[pick % len(self.logs)]
        async with self.pool.acquire() as connection:
            claim = await fence.rewind(connection, topic, self.books.claims[topic, part], 0)
        self.tally["replayed"] += 1
        before = await self._state()
        replies = await self._apply(part, Batch(topic, log, [Advance(claim, len(log), EPOCH)]))
        values = [json.loads(record.value) for record in log]
        if topic == USAGE_RECORDED:
            self.model.settle(_events(log))
        elif topic == CHECK_REQUESTED:
            self._hear(values, self.model.ask(values, self.now), replies)
        for value in values:
            if topic == HOLD_RELEASED:
                self.model.release(value)
            elif topic == HOLD_EXTENDED:
                self.model.extend(value, self.now)
        # A wish to extend that came before its hold, or too early, may come true the second time.
        assert topic == HOLD_EXTENDED or await self._state() == before

    async def agree(self) -> None:
        """Every balance, every hold and every count is the model's, and no hard limit was passed by checks."""
        balances, holds, *counts = await self._state()
        expected = self.model.balances()
        for pair, in_model in expected.items():
            budget, in_books = self.model.budgets[pair[0]], balances.pop(pair)
            # Nothing is booked on a removed budget, but the holds that it had are still given back.
            assert in_books[not budget.in_force :] == in_model[not budget.in_force :], (budget, pair)
            most = budget.limit + sum(amount for amount, *_ in budget.raises)
            assert not budget.hard or pair in self.model.loose or sum(in_books) <= most, (budget, pair)
        assert balances == {}, "windows that nobody has looked at"
        assert holds == {i: (hold.state, hold.expires_at) for i, hold in self.model.holds.items()}
        assert counts == [len(self.model.ledger), len(self.model.decisions)]
        dead = await self.pool.fetchval("SELECT count(*) FROM outbox WHERE topic LIKE '%.dlq'")
        assert dead == len(self.model.dead)

    async def _state(self) -> list[Any]:
        row = await self.pool.fetchrow(_STATE)
        balances = {(b, start): tuple(amounts) for b, start, *amounts in row["balances"] or ()}
        return [balances, {str(i): tuple(rest) for i, *rest in row["holds"] or ()}, row["events"], row["decisions"]]


def _identity(budget: Budget) -> Any:
    return budget.scope, budget.period, budget.unit


def _events(records: Sequence[ConsumerRecord]) -> list[tuple[Any, dict[str, Any], datetime]]:
    """Records as the model takes them: an event without an id is known by where it lies."""
    out = []
    for record in records:
        said = json.loads(record.value)
        at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        out.append((said.get("event_id", (record.partition, record.offset)), said, at))
    return out
