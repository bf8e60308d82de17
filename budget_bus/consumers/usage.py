"""usage.recorded -> ledger, rollups, balances, holds, alerts: the settler."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import structlog

from budget_bus import metrics
from budget_bus.consumers.batch import Batch, Clock, utc_now
from budget_bus.consumers.dead_letters import DeadLetter, bury
from budget_bus.consumers.facts import ESTIMATE_OVERRUN, UNRESERVED_USAGE, announce
from budget_bus.consumers.incoming import Incoming, as_reported, priced, read_usage
from budget_bus.consumers.prices import refresh_prices
from budget_bus.consumers.weighing import spent_on
from budget_bus.errors import Rejected
from budget_bus.policy.budget import Budget, Policy, Unit
from budget_bus.policy.holds import Hold, HoldState, Part, Settling, match_holds, take
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.policy.scope import Call
from budget_bus.policy.windows import Window
from budget_bus.providers.prices import PriceBook
from budget_bus.store import balances, contexts, fence, holds, ledger
from budget_bus.store.balances import Delta, Movement
from budget_bus.store.catalogue import Catalogue, Place, place_of
from budget_bus.store.holds import Settled
from budget_bus.store.ledger import ROLLUP_SUMS, LedgerRow, RollupKey, bucket_of

log = structlog.get_logger()


@dataclass(slots=True)
class Settler:
    """Keeps the books. One per process; `apply` is all it does."""

    pool: asyncpg.Pool
    catalogue: Catalogue
    prices: PriceBook
    clock: Clock = utc_now
    use_reported_cost: bool = False

    async def apply(self, batch: Batch, refused: str | None) -> None:
        """
        Write one batch in one transaction: fence, dedup, holds, ledger, rollups, outbox, and last the hot balances.

        What the flow of the log may replay is told apart by event_id: a duplicate is dropped, the same id with
        another content becomes a dead letter. A crash before the commit leaves nothing, after it everything.

        Raises:
            Fenced, Retryable, asyncpg errors: nothing was written.
        """
        now = self.clock()
        events, dead = self._read(batch, refused, now)
        async with self.pool.acquire() as connection, connection.transaction():
            # The log is the durable copy: after a crash of the database it gives us what an asynchronous commit lost.
            await connection.execute("SET LOCAL synchronous_commit = off")
            entry = await fence.enter(connection, batch.topic, batch.moves)
            await self.catalogue.refresh(connection, entry.catalogue_version)
            if await refresh_prices(connection, self.prices, entry.catalogue_version):
                events = [priced(event, self.prices) for event in events]
            if self.use_reported_cost:
                events = [as_reported(event) for event in events]
            fresh, conflicts = await _dedup(connection, events)
            dead += conflicts
            settled = await _settled_holds(connection, fresh, now)
            calls = ((event.call, _accounted_at(event, settled.get(event.event_id))) for event in fresh)
            await contexts.resolve(connection, self.catalogue, calls)
            booking = Booking(self.catalogue, now, batch.topic)
            for event in fresh:
                booking.add(event, settled.get(event.event_id))
            await ledger.insert(connection, booking.rows)
            await holds.settle(connection, booking.settled)
            await holds.shrink(connection, booking.leases.values())
            await ledger.add_rollups(connection, booking.rollups)
            await bury(connection, batch.topic, dead, at=now)
            await booking.move_balances(connection)
        _count(batch, fresh, dead, booking)

    def _read(self, batch: Batch, refused: str | None, now: datetime) -> tuple[list[Incoming], list[DeadLetter]]:
        events: list[Incoming] = []
        dead: list[DeadLetter] = []
        for record in batch.records:
            try:
                if refused is not None:
                    raise Rejected(refused)
                events.append(read_usage(record, batch.topic, self.prices, now=now))
            except Rejected as error:
                dead.append(DeadLetter(record, str(error)))
        return events, dead


async def _dedup(connection: asyncpg.Connection, events: Sequence[Incoming]) -> tuple[list[Incoming], list[DeadLetter]]:
    """The events that are new, and those whose id was used for something else."""
    if not events:
        return [], []
    seen = await ledger.known(connection, [event.event_id for event in events])
    fresh, conflicts = [], []
    for event in events:
        digest = seen.get(event.event_id)
        if digest is None:
            seen[event.event_id] = event.digest
            fresh.append(event)
        elif digest != event.digest:
            conflicts.append(DeadLetter(event.record, "conflict", f"event_id {event.event_id} was used before"))
    return fresh, conflicts


async def _settled_holds(connection: asyncpg.Connection, events: Sequence[Incoming], now: datetime) -> dict[UUID, Hold]:
    """Which hold each event settles; the holds are locked."""
    settling = [
        Settling(
            event.event_id,
            (event.call.component, event.call.provider, event.call.model),
            event.occurred_at,
            event.event.request_id,
            event.call.context_id,
        )
        for event in events
    ]
    asked = {s.request_id for s in settling if s.request_id}
    named = await holds.lock_named(connection, asked)
    if early := asked - named.keys():
        # Usage has overtaken its check: the id is taken, so that the check places nothing that nobody would settle.
        await holds.release_early(connection, early, at=now)
        named |= await holds.lock_named(connection, early)
    events_of = Counter(s.caller for s in settling)
    wanted = [(s.caller, s.context_id) for s in settling if s.request_id is None]
    newest: dict[tuple[str, str, str], datetime] = {}
    for item in settling:
        newest[item.caller] = max(item.occurred_at, newest.get(item.caller, item.occurred_at))
    # A hold that only others name is still there for a usage of its own component that names none.
    own = {s.request_id for s in settling if s.request_id and not _is_foreign(s, named)}
    _warn_of_foreign([s for s in settling if _is_foreign(s, named)], named)
    oldest = await holds.lock_oldest_open(connection, wanted, events_of, newest, own)
    return match_holds(settling, named, oldest)


def _is_foreign(event: Settling, named: Mapping[UUID, Hold]) -> bool:
    hold = named.get(event.request_id) if event.request_id else None
    return hold is not None and hold.component != event.caller[0]


def _warn_of_foreign(events: Iterable[Settling], named: Mapping[UUID, Hold]) -> None:
    for event in events:
        assert event.request_id is not None  # noqa: S101 - foreign is what names a hold
        metrics.FOREIGN_HOLDS.inc()
        log.warning(
            "usage names another component's hold, which it does not settle",
            event_id=str(event.event_id),
            request_id=str(event.request_id),
            component=event.caller[0],
            asked_by=named[event.request_id].component,
        )


class _Beyond(NamedTuple):
    """What an event used beyond its hold; not above zero: nothing."""

    nanos: int
    tokens: int

    def on(self, unit: Unit) -> bool:
        return (unit is Unit.COST and self.nanos > 0) or (unit is Unit.TOKENS and self.tokens > 0)


def _accounted_at(event: Incoming, hold: Hold | None) -> datetime:
    # The windows of the decision, so that midnight between check and usage breaks nothing.
    return hold.decided_at if hold else event.occurred_at


@dataclass(slots=True)
class Booking:
    """What a batch adds to the books, gathered before anything hot is locked."""

    catalogue: Catalogue
    now: datetime
    topic: str
    rows: list[LedgerRow] = field(default_factory=list)
    rollups: dict[RollupKey, list[int]] = field(default_factory=dict)
    late: int = 0
    settled: list[Settled] = field(default_factory=list)
    leases: dict[UUID, Hold] = field(default_factory=dict)  # what is left of them
    _sums: dict[tuple[Call, datetime, str], list[int]] = field(default_factory=dict)
    _windows: dict[Place, tuple[Budget, Window]] = field(default_factory=dict)
    _spent: dict[Place, int] = field(default_factory=lambda: defaultdict(int))
    _notices: dict[Place, set[str]] = field(default_factory=lambda: defaultdict(set))
    _released: dict[int, Delta] = field(default_factory=lambda: defaultdict(Delta))

    def add(self, event: Incoming, hold: Hold | None) -> None:
        """Book one event, which settles *hold*, or a part of it if it is a lease."""
        accounted_at = _accounted_at(event, hold)
        beyond = self._release(event, hold) if hold else _Beyond(0, 0)
        late, hard = False, False
        for budget in self.catalogue.matching(event.call):
            window = self.catalogue.window(budget, accounted_at, event.call)
            late = late or (window.end is not None and window.end <= self.now)
            key = place_of(budget, window)
            self._windows[key] = (budget, window)
            self._spent[key] += self._amount(budget, event, accounted_at)
            if self.catalogue.policy_of(budget) is Policy.HARD_LIMIT and not budget.spec.shadow:
                hard = True
                if not hold:
                    self._notices[key].add(UNRESERVED_USAGE)
                elif beyond.on(budget.spec.unit):
                    self._notices[key].add(ESTIMATE_OVERRUN)
        self.late += late
        self.rows.append(_row(event, hold, accounted_at, late=late, unreserved=hard and not hold, topic=self.topic))
        self._roll_up(event, late=late)

    def _release(self, event: Incoming, hold: Hold) -> _Beyond:
        """Take off the balances what the event settles; what it used beyond that."""
        cost = event.cost.total if event.cost else 0
        if hold.lease:
            lease = self.leases.get(hold.request_id, hold)
            self.leases[hold.request_id], off = take(lease, Part(cost, event.tokens.total, 1))
            held = cost if lease.cost_nanos is None else lease.cost_nanos
            beyond = _Beyond(cost - held, event.tokens.total - lease.tokens)
        else:
            off = dict(zip(hold.balance_ids, hold.amounts, strict=True))
            # Of an unpriced call nothing was held; its price has come since, which is no fault of the estimate.
            held = cost if hold.cost_nanos is None else hold.cost_nanos
            beyond = _Beyond(cost - held, event.tokens.total - hold.tokens)
            over = (beyond.nanos if beyond.nanos > 0 else None, beyond.tokens if beyond.tokens > 0 else None)
            self.settled.append(Settled(hold.request_id, event.event_id, *over))
        for balance_id, amount in off.items():
            if hold.state is HoldState.OPEN:
                self._released[balance_id].held -= amount
            else:
                self._released[balance_id].unconfirmed -= amount
        return beyond

    def _amount(self, budget: Budget, event: Incoming, accounted_at: datetime) -> int:
        cost, currency = (event.cost.total, event.price.currency) if event.cost and event.price else (None, "")
        return spent_on(
            self.catalogue, budget, tokens=event.tokens.total, cost=cost, currency=currency, at=accounted_at
        )

    def _roll_up(self, event: Incoming, *, late: bool) -> None:
        currency = event.price.currency if event.price else PRICE_CURRENCY
        place = (event.call, bucket_of(event.occurred_at), currency)
        sums = self._sums.get(place)
        if sums is None:
            sums = self._sums[place] = self.rollups.setdefault(_rollup_key(*place), [0] * len(ROLLUP_SUMS))
        sums[0] += 1
        sums[1] += event.tokens.input
        sums[2] += event.tokens.output
        if event.cost is None:
            sums[4] += 1
            sums[5] += event.tokens.total
        else:
            sums[3] += event.cost.total
        sums[6] += event.tokens.cache_read
        if late:
            sums[7] += 1
            sums[8] += event.cost.total if event.cost else 0

    async def move_balances(self, connection: asyncpg.Connection) -> None:
        """Lock and move the balances, the last thing of the transaction, and announce what changed."""
        ids, born = await balances.ensure(connection, self.catalogue, self._windows)
        deltas = dict(self._released)
        for key, spent in self._spent.items():
            delta = deltas.setdefault(ids[key], Delta())
            # A balance that was born here has summed this batch's ledger rows already.
            delta.spent += 0 if ids[key] in born else spent
        if not self.rows:
            return
        before = await balances.lock(connection, deltas) if deltas else {}
        await balances.move(connection, deltas, self._stretches())
        changes = {ids[key]: where for key, where in self._windows.items()}
        changes |= await self._elsewhere(connection, [i for i in before if i not in changes])
        told = {i: (budget, window, deltas[i].on(before[i])) for i, (budget, window) in changes.items()}
        notices = {ids[key]: kinds for key, kinds in self._notices.items()}
        await announce(connection, self.catalogue, told, now=self.now, notices=notices)

    def _stretches(self) -> list[Movement]:
        """Which stretch of each partition was booked."""
        booked: dict[int, list[int]] = defaultdict(list)
        for row in self.rows:
            booked[row.part].append(row.record_offset)
        return [
            Movement("settled", self.now, self.topic, part, min(offsets), max(offsets) + 1)
            for part, offsets in sorted(booked.items())
        ]

    async def _elsewhere(
        self, connection: asyncpg.Connection, balance_ids: Sequence[int]
    ) -> dict[int, tuple[Budget, Window]]:
        """Budgets that a hold was on but its event does not match: they are told of the release as well."""
        if not balance_ids:
            return {}
        in_force = {budget.budget_id: budget for budget in self.catalogue.budgets}
        places = await balances.budgets_of(connection, balance_ids)
        return {i: (in_force[budget_id], window) for i, (budget_id, window) in places.items() if budget_id in in_force}


def _rollup_key(call: Call, bucket_start: datetime, currency: str) -> RollupKey:
    return RollupKey(
        bucket_start,
        call.component,
        call.provider,
        call.model,
        call.tier,
        call.task_type or "",
        call.user or "",
        call.context_id or "",
        currency,
    )


def _row(
    event: Incoming, hold: Hold | None, accounted_at: datetime, *, late: bool, unreserved: bool, topic: str
) -> LedgerRow:
    call, tokens, cost, said = event.call, event.tokens, event.cost, event.event
    reported = said.reported_cost
    return LedgerRow(
        event_id=event.event_id,
        digest=event.digest,
        occurred_at=event.occurred_at,
        accounted_at=accounted_at,
        component=call.component,
        provider=call.provider,
        model=call.model,
        tier=call.tier,
        service_tier=said.service_tier,
        task_type=call.task_type,
        context_id=call.context_id,
        user=call.user,
        operation_id=said.operation_id,
        tags=said.tags,
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cache_read_input_tokens=tokens.cache_read,
        cache_creation_input_tokens=tokens.cache_creation,
        reasoning_output_tokens=tokens.reasoning_output,
        input_audio_tokens=tokens.input_audio,
        output_audio_tokens=tokens.output_audio,
        cache_creation_1h_input_tokens=tokens.cache_creation_1h,
        input_image_tokens=tokens.input_image,
        output_image_tokens=tokens.output_image,
        token_source=event.token_source,
        cost_nanos=cost.total if cost else None,
        input_cost_nanos=cost.input if cost else None,
        output_cost_nanos=cost.output if cost else None,
        currency=event.price.currency if event.price else PRICE_CURRENCY,
        price_status=event.price_status.value,
        price_source=event.price.source if event.price else "",
        reported_cost_nanos=int(reported.amount * 10**9) if reported else None,
        reported_currency=reported.currency if reported else None,
        request_id=hold.request_id if hold else None,
        late=late,
        unreserved=unreserved,
        topic=topic,
        part=event.record.partition,
        record_offset=event.record.offset,
    )


def _count(batch: Batch, fresh: Sequence[Incoming], dead: Iterable[DeadLetter], booking: Booking) -> None:
    refused = list(dead)
    metrics.OVERRUNS.inc(sum(s.overrun_nanos is not None or s.overrun_tokens is not None for s in booking.settled))
    metrics.EVENTS.labels("late").inc(booking.late)
    metrics.EVENTS.labels("recorded").inc(len(fresh) - booking.late)
    metrics.EVENTS.labels("duplicate").inc(len(batch.records) - len(fresh) - len(refused))
    metrics.CONFLICTS.inc(sum(letter.reason == "conflict" for letter in refused))
    for letter in refused:
        metrics.DEAD_LETTERS.labels(batch.topic, letter.label).inc()
