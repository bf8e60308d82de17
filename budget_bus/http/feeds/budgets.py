"""/ws: the budgets, then each event as it comes into the books, each balance as it moves, each limit as it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from uuid import UUID

import structlog
from pydantic import BaseModel, Field

from budget_bus.errors import BudgetUnavailable
from budget_bus.events.facts import BudgetChanged, BudgetUpdated
from budget_bus.events.topics import BUDGET_CHANGES, BUDGET_UPDATES
from budget_bus.http.budgets import BudgetView, concerns, views
from budget_bus.http.feeds.feed import Message, Publish, Told, Wants
from budget_bus.http.feeds.outgoing import Outgoing
from budget_bus.http.feeds.socket import FeedEndpoint
from budget_bus.http.feeds.usage import BookedUsage
from budget_bus.http.parts import Parts
from budget_bus.http.query import Names, Query
from budget_bus.policy.budget import Budget
from budget_bus.producers.follower import Follower, facts
from budget_bus.store import limits
from budget_bus.store.catalogue import catalogue_version
from budget_bus.store.pool import retryable

_POLL_S = 0.2
_BREATH_S = 0.01  # between two reads of a backlog: the sockets of those who are told drain meanwhile
_PAUSE_S = 0.5

log = structlog.get_logger()


class BudgetFeedQuery(Query):
    """Usage of any of these components, and the budgets whose scope does not exclude all of them."""

    component: Names = Field(default_factory=list)


class BudgetSnapshot(BaseModel):
    """Budgets in force, oldest first, as `GET /api/limits` lists them."""

    budgets: list[BudgetView]


class LimitChanged(BudgetChanged):
    """A limit was made, changed or, with `after` null, removed; `budget` is as in the snapshot, null if it is gone."""

    budget_id: UUID
    budget: BudgetView | None


class BudgetReader:
    """Usage from the books, balances from budget.updates, limits from budget.changes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._usage = BookedUsage(parts)
        self._updates: Follower | None = None
        self._changes: Follower | None = None
        self._budgets: dict[UUID, Budget] = {}
        self._seen: dict[UUID, Budget] = {}  # also those that are gone
        self._version = 0

    async def open(self) -> None:
        """As `Reader.open`."""
        await self._usage.open()
        await self._look_up()
        try:
            self._updates = await self._followed(BUDGET_UPDATES)
            self._changes = await self._followed(BUDGET_CHANGES)
        except BaseException:
            await self.close()
            raise

    async def run(self, publish: Publish) -> None:
        """As `Reader.run`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_usage(publish))
            group.create_task(self._tell_balances(publish))
            group.create_task(self._tell_limits(publish))

    async def close(self) -> None:
        """As `Reader.close`."""
        await self._usage.close()
        for follower in (self._updates, self._changes):
            if follower is not None:
                await follower.stop()

    async def _followed(self, topic: str) -> Follower:
        follower = await self._parts.bus.follower(topic)
        await follower.start()
        return follower

    async def _tell_usage(self, publish: Publish) -> None:
        while True:
            try:
                events = await self._usage.read()
            except Exception as error:
                _must_pass(error)
                await asyncio.sleep(_PAUSE_S)
                continue
            for event in events:
                message = Message(type="usage", at=event.recorded_at, payload=event)
                publish(Told(message.model_dump_json(), component=event.component))
            await asyncio.sleep(_BREATH_S if events else _POLL_S)

    async def _tell_balances(self, publish: Publish) -> None:
        assert self._updates is not None  # noqa: S101  # open comes first
        while True:
            updates = facts(BudgetUpdated, await self._updates.read())
            if updates:
                await self._read_budgets()
            for update in updates:
                message = Message(type="balance", at=update.as_of, payload=update)
                place = (update.budget_id, update.context_id, update.window_start)
                publish(Told(message.model_dump_json(), key=place, budget=self._budgets.get(update.budget_id)))
            await asyncio.sleep(_BREATH_S if updates else 0)

    async def _tell_limits(self, publish: Publish) -> None:
        assert self._changes is not None  # noqa: S101  # open comes first
        while True:
            for change in facts(BudgetChanged, await self._changes.read()):
                said = change.after or change.before or {}
                if change.kind in ("limit", "allocation") and "budget_id" in said:
                    await self._tell_limit(publish, change, UUID(said["budget_id"]))

    async def _tell_limit(self, publish: Publish, change: BudgetChanged, budget_id: UUID) -> None:
        await self._read_budgets()
        budget = self._budgets.get(budget_id)
        payload = LimitChanged(
            **change.model_dump(), budget_id=budget_id, budget=await self._shown(budget) if budget else None
        )
        message = Message(type="limit", at=change.at, payload=payload)
        # Of one that is gone, the scope that it had tells who wants to know.
        publish(Told(message.model_dump_json(), budget=self._seen.get(budget_id)))

    async def _shown(self, budget: Budget) -> BudgetView | None:
        while True:
            try:
                return (await views(self._parts, [budget]))[0]
            except Exception as error:
                _must_pass(error)
                await asyncio.sleep(_PAUSE_S)

    async def _read_budgets(self) -> None:
        """Know the scopes as they are now; waits for a database that is away."""
        while True:
            try:
                await self._look_up()
                return
            except Exception as error:
                _must_pass(error)
                await asyncio.sleep(_PAUSE_S)

    async def _look_up(self) -> None:
        version = await catalogue_version(self._parts.pool)
        if version != self._version:
            budgets = await limits.list_limits(self._parts.pool)
            self._budgets, self._version = {budget.budget_id: budget for budget in budgets}, version
            self._seen |= self._budgets


def _must_pass(error: Exception) -> None:
    """Raise *error* again unless it passes by itself."""
    if not (retryable(error) or isinstance(error, BudgetUnavailable)):
        raise error
    log.warning("a feed waits", reason=f"{type(error).__name__}: {error}")


async def snapshot(parts: Parts, query: BudgetFeedQuery, _reader: BudgetReader, _outgoing: Outgoing) -> BudgetSnapshot:
    """
    What the client is told first. A balance that moves meanwhile comes afterwards as well, perhaps with an older one
    before it: the last one is right.
    """
    wanted = [budget for budget in await limits.list_limits(parts.pool) if _admits(query.component, budget)]
    return BudgetSnapshot(budgets=await views(parts, wanted))


def wants(query: BudgetFeedQuery) -> Wants:
    """What is told to a client that asked so."""
    components = frozenset(query.component)

    def wanted(told: Told) -> bool:
        if not components:
            return True
        if told.component is not None:
            return told.component in components
        return told.budget is not None and _admits(components, told.budget)

    return wanted


def _admits(components: Iterable[str], budget: Budget) -> bool:
    return concerns(budget, {"component": tuple(components)})


FEED = FeedEndpoint(
    path="/ws", name="budgets", query=BudgetFeedQuery, reader=BudgetReader, wants=wants, snapshot=snapshot
)
