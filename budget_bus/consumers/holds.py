"""hold.released, hold.extended, and the expiry of holds: the ways a hold ends without usage."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import structlog
from aiokafka import ConsumerRecord

from budget_bus import metrics
from budget_bus.consumers.batch import Batch, Clock, utc_now
from budget_bus.consumers.dead_letters import DeadLetter, bury
from budget_bus.consumers.facts import Change, announce
from budget_bus.errors import FieldError, Rejected
from budget_bus.events.decode import decode
from budget_bus.events.holds import HoldExtended, HoldReleased
from budget_bus.events.topics import HOLD_EXTENDED, HOLD_RELEASED, USAGE_RECORDED
from budget_bus.policy.holds import Hold, HoldState, Part, is_hard, left_unconfirmed, take
from budget_bus.store import balances, fence, holds
from budget_bus.store.balances import Delta, Movement
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.pool import retryable

log = structlog.get_logger()

_EXPIRED_AT_ONCE = 500
_EXPIRY_PERIOD_S = 1.0
_LONGEST = timedelta(days=1)  # as hold_ttl_s


@dataclass(slots=True)
class HoldKeeper:
    """Ends holds. `apply` serves both topics; `expire_once` needs no topic."""

    pool: asyncpg.Pool
    catalogue: Catalogue
    clock: Clock = utc_now

    async def apply(self, batch: Batch, refused: str | None) -> None:
        """
        Release or extend the holds that a batch names, in one transaction.

        A hold that is closed already stays as it is. A release that comes before its check is remembered, so that
        the check places nothing.

        Raises:
            Fenced, Retryable, asyncpg errors: nothing was written.
        """
        now = self.clock()
        wishes, dead = _read(batch, refused, now)
        async with self.pool.acquire() as connection, connection.transaction():
            entry = await fence.enter(connection, batch.topic, batch.moves)
            await self.catalogue.refresh(connection, entry.catalogue_version)
            if batch.topic == HOLD_RELEASED:
                await holds.release_early(connection, list({wish.request_id for wish, _ in wishes}), at=now)
            found = await holds.lock_named(connection, [wish.request_id for wish, _ in wishes])
            mine = [wish for wish, record in wishes if _owns(wish, found, record, dead)]
            extended: dict[UUID, datetime] = {}
            for wish in mine:
                if isinstance(wish, HoldExtended) and found[wish.request_id].state is HoldState.OPEN:
                    extended[wish.request_id] = max(wish.expires_at, extended.get(wish.request_id, wish.expires_at))
            await holds.extend(connection, extended)
            ended = _released(found, [wish for wish in mine if isinstance(wish, HoldReleased)])
            await holds.close(connection, ended.voided, HoldState.VOIDED)
            await holds.shrink(connection, ended.shrunk.values())
            await bury(connection, batch.topic, dead, at=now)
            voided = [Movement("voided", now, request_id=request_id) for request_id in sorted(ended.voided)]
            given_back = [Movement("given_back", now, None, None, None, None, *part) for part in ended.parts]
            await self._move(connection, ended.deltas, now, [*given_back, *voided])
        for letter in dead:
            metrics.DEAD_LETTERS.labels(batch.topic, letter.label).inc()

    async def expire_once(self) -> int:
        """
        Expire holds whose end lies before the usage consumers' watermark; returns how many there were.

        On hard budgets the amount stays charged as unconfirmed: nobody knows whether the call was made. Elsewhere it
        is released.
        """
        now = self.clock()
        async with self.pool.acquire() as connection, connection.transaction():
            entry = await fence.enter(connection, USAGE_RECORDED)
            await self.catalogue.refresh(connection, entry.catalogue_version)
            if entry.usage_read_to is None:
                return 0
            expired = await holds.lock_expired(connection, entry.usage_read_to, limit=_EXPIRED_AT_ONCE)
            if not expired:
                return 0
            charged = await self._charged(connection, expired.values())
            await holds.leave_unconfirmed(connection, charged.values())
            released = [request_id for request_id in expired if request_id not in charged]
            await holds.close(connection, released, HoldState.EXPIRED)
            deltas: dict[int, Delta] = defaultdict(Delta)
            for request_id, hold in expired.items():
                _take_off(deltas, hold)
                kept = charged.get(request_id)
                for balance_id, amount in zip(kept.balance_ids, kept.amounts, strict=True) if kept else ():
                    deltas[balance_id].unconfirmed += amount
            ends = [Movement("expired", now, request_id=request_id) for request_id in expired]
            await self._move(connection, deltas, now, ends)
        metrics.EXPIRED_HOLDS.labels("unconfirmed").inc(len(charged))
        metrics.EXPIRED_HOLDS.labels("released").inc(len(released))
        return len(expired)

    async def _charged(self, connection: asyncpg.Connection, expired: Iterable[Hold]) -> dict[UUID, Hold]:
        """request_id -> the hold with just the amounts that hard budgets go on being charged with."""
        expired = list(expired)
        places = await balances.budgets_of(connection, [i for hold in expired for i in hold.balance_ids])
        hard = {
            budget.budget_id for budget in self.catalogue.budgets if is_hard(budget, self.catalogue.policy_of(budget))
        }
        on_hard = {balance_id for balance_id, (budget_id, _) in places.items() if budget_id in hard}
        left = {hold.request_id: left_unconfirmed(hold, on_hard) for hold in expired}
        return {request_id: hold for request_id, hold in left.items() if hold is not None}

    async def _move(
        self, connection: asyncpg.Connection, deltas: Mapping[int, Delta], now: datetime, movements: Sequence[Movement]
    ) -> None:
        """Move the balances, the last thing of the transaction, and announce what changed."""
        if not deltas and not movements:
            return
        places = await balances.budgets_of(connection, deltas)
        before = await balances.lock(connection, deltas)
        await balances.move(connection, deltas, movements)
        budgets = {budget.budget_id: budget for budget in self.catalogue.budgets}
        changes: dict[int, Change] = {}
        for balance_id, was in before.items():
            budget_id, window = places[balance_id]
            if budget_id in budgets:
                changes[balance_id] = (budgets[budget_id], window, deltas[balance_id].on(was))
        await announce(connection, self.catalogue, changes, now=now)


@dataclass(slots=True)
class _Ended:
    """What releases do: holds given back as a whole, leases given back in part, and what comes off the balances."""

    voided: set[UUID] = field(default_factory=set)
    shrunk: dict[UUID, Hold] = field(default_factory=dict)
    parts: list[tuple[UUID, int, int, int]] = field(default_factory=list)  # of leases: nanos, tokens, calls
    deltas: dict[int, Delta] = field(default_factory=lambda: defaultdict(Delta))


def _released(found: Mapping[UUID, Hold], wishes: Iterable[HoldReleased]) -> _Ended:
    ended = _Ended()
    for wish in wishes:
        hold = ended.shrunk.get(wish.request_id, found[wish.request_id])
        if not hold.settleable or wish.request_id in ended.voided:
            continue
        if wish.unused is not None and hold.lease:
            # What was given back before is named again: a message that comes twice must not count twice.
            total = wish.unused.part()
            part = Part(*(max(0, t - g) for t, g in zip(total, hold.given_back, strict=True)))
            rest, off = take(hold, part)
            given_back = Part(*(max(t, g) for t, g in zip(total, hold.given_back, strict=True)))
            ended.shrunk[wish.request_id] = replace(rest, given_back=given_back)
            ended.parts.append((wish.request_id, *part))
            for balance_id, amount in off.items():
                _take_off(ended.deltas, hold, {balance_id: amount})
        else:
            ended.voided.add(wish.request_id)
            _take_off(ended.deltas, hold)
    return ended


def _take_off(deltas: dict[int, Delta], hold: Hold, amounts: Mapping[int, int] | None = None) -> None:
    """Take *amounts* (all) of a hold off its balances."""
    for balance_id, amount in (amounts or dict(zip(hold.balance_ids, hold.amounts, strict=True))).items():
        if hold.state is HoldState.UNCONFIRMED:
            deltas[balance_id].unconfirmed -= amount
        else:
            deltas[balance_id].held -= amount


Wish = HoldReleased | HoldExtended


def _read(
    batch: Batch, refused: str | None, now: datetime
) -> tuple[list[tuple[Wish, ConsumerRecord]], list[DeadLetter]]:
    model: type[Wish] = HoldExtended if batch.topic == HOLD_EXTENDED else HoldReleased
    wishes: list[tuple[Wish, ConsumerRecord]] = []
    dead: list[DeadLetter] = []
    for record in batch.records:
        try:
            if refused is not None:
                raise Rejected(refused)
            wish: Wish = decode(model, record.value)
            if isinstance(wish, HoldExtended) and wish.expires_at > now + _LONGEST:
                raise Rejected("invalid input", [FieldError("expires_at", "is more than 86,400 s ahead")])
            wishes.append((wish, record))
        except Rejected as error:
            dead.append(DeadLetter(record, str(error)))
    return wishes, dead


def _owns(wish: Wish, found: Mapping[UUID, Hold], record: ConsumerRecord, dead: list[DeadLetter]) -> bool:
    """Whether the hold is there and its asker's: one component cannot end what another has set aside."""
    hold = found.get(wish.request_id)
    if hold is None:
        return False
    if hold.component != wish.component:
        dead.append(DeadLetter(record, "invalid input; component: is not the one that asked for this hold"))
        return False
    return True


async def keep_expiring(keeper: HoldKeeper, stopping: asyncio.Event) -> None:
    """Expire holds once a second until *stopping*; several processes may do so at once."""
    while not stopping.is_set():
        try:
            busy = await keeper.expire_once() == _EXPIRED_AT_ONCE
        except Exception as error:
            if not retryable(error):
                raise
            log.warning("expiry is tried again", reason=f"{type(error).__name__}: {error}")
            busy = False
        if not busy:
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), _EXPIRY_PERIOD_S)
