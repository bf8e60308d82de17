"""
Costs after a price correction: the difference first, then ledger, rollups and balances, chunk by chunk.

A chunk is one transaction that takes its locks in the order of a settler's batch, so settlers go on meanwhile, and the
books add up after each. How far it is lies in the books as well: a restatement that was killed goes on where it was,
and one that was finished finds nothing to do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from budget_bus.consumers.facts import announce, tell_restated
from budget_bus.consumers.prices import refresh_prices
from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.policy.budget import Budget, Unit
from budget_bus.policy.exchange import utc_day
from budget_bus.policy.pricing import Cost, Price, Tokens, cost_of
from budget_bus.policy.scope import Call
from budget_bus.policy.windows import Window
from budget_bus.providers.prices import PriceBook
from budget_bus.store import balances, contexts, fence, ledger, restatements
from budget_bus.store.balances import Delta, Movement
from budget_bus.store.catalogue import Catalogue, Place, place_of
from budget_bus.store.ledger import RollupKey, bucket_of
from budget_bus.store.restatements import BEGINNING, Cursor, Range, Restated, Slice

CHUNK = 5_000
_SUMMARIZE_EVERY = 10  # slices
REPORTED = "reported"  # the price_source of a cost that the provider named: no price of ours restates it

# How many rows of how many are done, and what is being done.
Progress = Callable[[int, int, str], None]


@dataclass(slots=True)
class Difference:
    """What restating comes to for one model in one currency; costs are nanos."""

    rows: int = 0
    changed: int = 0
    newly_priced: int = 0
    without_price: int = 0  # they keep what they have
    before: int = 0
    after: int = 0


Differences = dict[tuple[str, str, str], Difference]  # by provider, model, currency


class _Row(NamedTuple):
    """A row whose cost is another at today's prices."""

    row: Any
    cost: Cost
    price: Price


async def difference(
    connection: asyncpg.Connection, prices: PriceBook, wanted: Range, *, progress: Progress
) -> Differences:
    """What restating *wanted* would change; writes nothing."""
    await refresh_prices(connection, prices)
    found: Differences = defaultdict(Difference)
    parts = await restatements.slices(connection, wanted, CHUNK)
    done, total = 0, sum(part.rows for part in parts)
    for part in parts:
        cursor = BEGINNING
        while rows := await restatements.rows_after(connection, wanted, part, cursor, CHUNK):
            for row in rows:
                _count(found[row["provider"], row["model"], row["currency"]], row, _restated(row, prices))
            done += len(rows)
            progress(done, max(done, total), "rows compared")
            cursor = Cursor(rows[-1]["occurred_at"], rows[-1]["event_id"])
            if len(rows) < CHUNK:
                break
    return dict(found)


def _count(sums: Difference, row: Any, new: _Row | None) -> None:
    sums.rows += 1
    sums.before += row["cost_nanos"] or 0
    if isinstance(new, _Row):
        sums.changed += 1
        sums.newly_priced += row["cost_nanos"] is None
        sums.after += new.cost.total
    else:
        sums.without_price += row["cost_nanos"] is None
        sums.after += row["cost_nanos"] or 0


def _restated(row: Any, prices: PriceBook) -> _Row | None:
    """The row at today's prices, if that is another cost. Without a price of today it keeps what it has."""
    if row["price_source"] == REPORTED:
        return None
    price = prices.price(row["provider"], row["model"], row["occurred_at"], row["service_tier"])
    if price is None:
        return None
    cost = cost_of(tokens_of(row), price)
    kept = (row["cost_nanos"], row["input_cost_nanos"], row["output_cost_nanos"], row["currency"], row["price_status"])
    return None if kept == (*cost, price.currency, price.status.value) else _Row(row, cost, price)


def tokens_of(row: Any) -> Tokens:
    """The counts of a ledger row."""
    return Tokens(
        input=row["input_tokens"],
        output=row["output_tokens"],
        cache_read=row["cache_read_input_tokens"],
        cache_creation=row["cache_creation_input_tokens"],
        reasoning_output=row["reasoning_output_tokens"],
        input_audio=row["input_audio_tokens"],
        output_audio=row["output_audio_tokens"],
        cache_creation_1h=row["cache_creation_1h_input_tokens"],
        input_image=row["input_image_tokens"],
        output_image=row["output_image_tokens"],
    )


@dataclass(slots=True)
class Restating:
    """One restatement of *wanted*, from where it is to its end. *connection* is its own, *now* the time of alerts."""

    connection: asyncpg.Connection
    catalogue: Catalogue
    prices: PriceBook
    wanted: Range
    actor: str
    reason: str
    now: Callable[[], datetime]
    progress: Progress
    changed: int = 0
    _id: UUID | None = None
    _cursor: Cursor = BEGINNING
    _version: int | None = None
    _begun: bool = False

    async def run(self) -> int:
        """
        Restate to the end; how many rows were changed.

        Raises:
            Conflict: another restatement is under way.
        """
        await restatements.lock(self.connection)
        try:
            found = await restatements.running(self.connection, self.wanted)
            if found is not None:
                self._id, self._cursor, self._version = found.restatement_id, found.cursor, found.prices_version
            while not await self._pass():
                self._cursor = BEGINNING  # the prices are others than those of the rows before
            if self._id is not None:
                await self._finish(self._id)
            return self.changed
        finally:
            if not self.connection.is_closed():
                await restatements.unlock(self.connection)

    async def _pass(self) -> bool:
        """Go from the cursor to the end; False when the prices have changed on the way."""
        parts = await restatements.slices(self.connection, self.wanted, CHUNK)
        done, total = 0, sum(part.rows for part in parts)
        for number, part in enumerate(parts):
            done += part.rows
            if part.end <= self._cursor.at:
                continue
            more = True
            while more:
                async with self.connection.transaction():
                    if not await self._same_prices():
                        return False
                    more = await self._chunk(part)
            if number % _SUMMARIZE_EVERY == _SUMMARIZE_EVERY - 1:
                await restatements.summarize(self.connection)
            self.progress(done, max(done, total), "rows restated")
        return True

    async def _same_prices(self) -> bool:
        entry = await fence.enter(self.connection, USAGE_RECORDED)
        await self.catalogue.refresh(self.connection, entry.catalogue_version)
        changed = await refresh_prices(self.connection, self.prices, entry.catalogue_version)
        before, self._version = self._version, entry.catalogue_version
        if not self._begun:
            # The book was empty until now, so only the version tells whether the rows before had the same prices.
            self._begun, changed = True, before not in (None, entry.catalogue_version)
        return not changed or self._cursor == BEGINNING

    async def _chunk(self, part: Slice) -> bool:
        rows = await restatements.rows_after(self.connection, self.wanted, part, self._cursor, CHUNK)
        if not rows:
            return False
        new = [found for row in rows if (found := _restated(row, self.prices)) is not None]
        cursor = Cursor(rows[-1]["occurred_at"], rows[-1]["event_id"])
        if new:
            await self._apply(new, cursor)
        self._cursor = cursor
        return len(rows) == CHUNK

    async def _apply(self, new: list[_Row], cursor: Cursor) -> None:
        connection, version = self.connection, self._version or 0
        if self._id is None:
            self._id = await restatements.begin(
                connection, self.wanted, actor=self.actor, reason=self.reason, prices_version=version
            )
        groups = _grouped(new, self.catalogue)
        calls = [(_call(group), group.accounted_at) for group in groups]
        await contexts.resolve(connection, self.catalogue, calls)
        await restatements.restate(connection, self._id, [_written(one) for one in new])
        await ledger.add_rollups(connection, _rollups(groups))
        moves = _Moves(self.catalogue)
        for (call, accounted_at), sums in zip(calls, groups.values(), strict=True):
            moves.add(call, accounted_at, sums)
        windows = await moves.move(connection, now=self.now())
        moved = sum(sums.cost - sums.was_cost for sums in groups.values())
        await restatements.advance(
            connection, self._id, cursor, prices_version=version, changed=len(new), moved=moved, windows=windows
        )
        self.changed += len(new)

    async def _finish(self, restatement_id: UUID) -> None:
        now = self.now()
        async with self.connection.transaction():
            await fence.enter(self.connection, USAGE_RECORDED)
            moved = await restatements.windows(self.connection, restatement_id)
            places = await balances.budgets_of(self.connection, moved)
            kept = await balances.lock(self.connection, moved)
            in_force = {budget.budget_id: budget for budget in self.catalogue.budgets}
            closed = [
                ((in_force[budget_id], window, kept[balance_id]), moved[balance_id])
                for balance_id, (budget_id, window) in places.items()
                if budget_id in in_force and window.end is not None and window.end <= now
            ]
            await tell_restated(self.connection, closed, restatement_id, now=now)
            await restatements.finish(self.connection, restatement_id, actor=self.actor, at=now)


@dataclass(slots=True)
class _Moves:
    """What a chunk adds to the balances of cost budgets."""

    catalogue: Catalogue
    _windows: dict[Place, tuple[Budget, Window]] = field(default_factory=dict)
    _by: dict[Place, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, call: Call, accounted_at: datetime, sums: _Sums) -> None:
        for budget in self.catalogue.matching(call):
            if budget.spec.unit is not Unit.COST:
                continue
            window = self.catalogue.window(budget, accounted_at, call)
            place = place_of(budget, window)
            self._windows[place] = (budget, window)
            self._by[place] += sums.moved.get(budget.spec.currency or "", 0)

    async def move(self, connection: asyncpg.Connection, *, now: datetime) -> dict[int, int]:
        """Lock and move the balances, the last thing that is locked; balance_id -> by how much."""
        ids, born = await balances.ensure(connection, self.catalogue, self._windows)
        # A balance that was born here has summed the restated rows already.
        deltas = {ids[place]: Delta(spent=0 if ids[place] in born else by) for place, by in self._by.items()}
        if not deltas:
            return {}
        before = await balances.lock(connection, deltas)
        await balances.move(connection, deltas, [Movement("restated", now)])
        told = {
            ids[place]: (*where, deltas[ids[place]].on(before[ids[place]])) for place, where in self._windows.items()
        }
        await announce(connection, self.catalogue, told, now=now)
        return {balance_id: delta.spent for balance_id, delta in deltas.items()}


class _Group(NamedTuple):
    """What rows have in common that go into the same rollups and balances."""

    component: str
    provider: str
    model: str
    tier: str
    task_type: str | None
    context_id: str | None
    user: str | None
    tags: tuple[tuple[str, str], ...]
    bucket_start: datetime
    accounted_at: datetime  # a quarter of an hour, or the instant where windows may begin at any
    was_currency: str
    currency: str


@dataclass(slots=True)
class _Sums:
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    was_cost: int = 0
    cost: int = 0
    unpriced_requests: int = 0
    unpriced_tokens: int = 0
    moved: dict[str, int] = field(default_factory=dict)  # by how much, in each currency that budgets count in


def _grouped(new: Iterable[_Row], catalogue: Catalogue) -> dict[_Group, _Sums]:
    exact, rates = catalogue.has_contexts, catalogue.rates
    groups: dict[_Group, _Sums] = {}
    for row, cost, price in new:
        context_id, accounted_at, tags = row["context_id"], row["accounted_at"], row["tags"]
        group = _Group(
            row["component"], row["provider"], row["model"], row["tier"], row["task_type"], context_id,
            row["user_name"], tuple(tags.items()) if tags else (), bucket_of(row["occurred_at"]),
            accounted_at if exact and context_id else bucket_of(accounted_at), row["currency"], price.currency,
        )  # fmt: skip
        sums = groups.get(group)
        if sums is None:
            sums = groups[group] = _Sums()
        was = row["cost_nanos"]
        sums.requests += 1
        sums.input_tokens += row["input_tokens"]
        sums.output_tokens += row["output_tokens"]
        sums.cost += cost.total
        if was is None:
            sums.unpriced_requests += 1
            sums.unpriced_tokens += row["input_tokens"] + row["output_tokens"]
        else:
            sums.was_cost += was
        for currency in catalogue.currencies:
            day = utc_day(accounted_at)
            now = rates.convert(cost.total, price.currency, currency, day) or 0
            before = rates.convert(was or 0, row["currency"], currency, day) or 0
            sums.moved[currency] = sums.moved.get(currency, 0) + now - before
    return groups


def _call(group: _Group) -> Call:
    return Call(
        component=group.component,
        provider=group.provider,
        model=group.model,
        tier=group.tier,
        task_type=group.task_type,
        context_id=group.context_id,
        user=group.user,
        tags=group.tags,
    )


def _written(one: _Row) -> Restated:
    row, cost, price = one
    return Restated(
        row["event_id"], *cost, price.currency, price.status.value, price.source, row["cost_nanos"],
        row["input_cost_nanos"], row["output_cost_nanos"], row["currency"], row["price_status"], row["price_source"],
    )  # fmt: skip


def _rollups(groups: Mapping[_Group, _Sums]) -> dict[RollupKey, list[int]]:
    """What the sums of rows change by: off the key of the old currency, onto that of the new one."""
    changes: dict[RollupKey, list[int]] = {}
    for group, sums in groups.items():
        counts = (sums.requests, sums.input_tokens, sums.output_tokens)
        for currency, sign, numbers in (
            (group.was_currency, -1, (*counts, sums.was_cost, sums.unpriced_requests, sums.unpriced_tokens)),
            (group.currency, 1, (*counts, sums.cost, 0, 0)),
        ):
            key = RollupKey(
                group.bucket_start, group.component, group.provider, group.model, group.tier, group.task_type or "",
                group.user or "", group.context_id or "", currency,
            )  # fmt: skip
            change = changes.setdefault(key, [0] * 6)
            for i, number in enumerate(numbers):
                change[i] += sign * number
    return changes
