"""Anomalies, looked for again and again beside the streams: found, told once, and if the breaker says so, paused."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import asyncpg
import structlog

from budget_bus import metrics
from budget_bus.consumers.facts import tell_anomaly
from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.insight import breaker
from budget_bus.insight.breaker import Setting
from budget_bus.insight.finding import looping, place_of, silent, too_fast
from budget_bus.insight.learnt import MEMORY, Learnt, utc_now
from budget_bus.policy.looping import MIN_CALLS
from budget_bus.policy.pause import Pause
from budget_bus.policy.velocity import BUCKET
from budget_bus.store import anomalies, fence, pauses
from budget_bus.store.anomalies import Episode, Finding

log = structlog.get_logger()

_RETRY_S = 10.0
_OVER_AFTER = BUCKET  # an episode that was not seen for so long is over; one at the edge does not come and go
_READ_TO = timedelta(minutes=5)  # with usage read no further than this, nobody can be said to be silent


@dataclass(slots=True)
class Watcher:
    """Looks for anomalies; *floor*, in nanos of the currency of prices, is what must at least be at stake."""

    pool: asyncpg.Pool
    floor: int
    clock: Callable[[], datetime] = utc_now
    learnt: Learnt = field(default_factory=Learnt)

    async def run(self, stopping: asyncio.Event, *, interval_s: float) -> None:
        """
        Look at once and every *interval_s* seconds until *stopping*; 0 is never.

        What the database says is no reason to end: it is tried again.
        """
        while interval_s and not stopping.is_set():
            pause_s = interval_s
            try:
                for found in await self.look() or ():
                    metrics.ANOMALIES.labels(found.kind).inc()
                    log.warning("an anomaly", kind=found.kind, scope=found.scope, reason=found.reason)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                log.warning("looking for anomalies is tried again", reason=f"{type(error).__name__}: {error}")
                pause_s = min(interval_s, _RETRY_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause_s)

    async def look(self) -> list[Finding] | None:
        """
        Look once. What is new is kept, told and, if the breaker says so, paused, in one transaction.

        Returns:
            What is new; None if another bookkeeper is looking.
        """
        now = self.clock()
        await self.learnt.read(self.pool, now)
        async with self.pool.acquire() as connection, connection.transaction():
            if not await anomalies.watch_alone(connection):
                return None
            known = await anomalies.episodes(connection, now - BUCKET - _OVER_AFTER)
            found = await self._find(connection, known, now)
            return await _keep(connection, known, found, now)

    async def _find(self, connection: asyncpg.Connection, known: Sequence[Episode], now: datetime) -> list[Finding]:
        used_up = {
            place_of(one.kind, one.scope): one.pause_ends
            for one in known
            if one.pause_ends is not None and one.pause_ends <= now
        }
        since = now - BUCKET
        recent = await anomalies.recent(connection, since)
        turns = await anomalies.turns(connection, since, calls=MIN_CALLS, floor=self.floor)
        wrong = await anomalies.spans(connection, now - MEMORY)
        read_to = await anomalies.usage_read_to(connection, USAGE_RECORDED)

        def judge() -> list[Finding]:
            found = [*too_fast(self.learnt, recent, now, floor=self.floor, wrong=wrong, used_up=used_up)]
            found += looping(self.learnt, turns, now, floor=self.floor, used_up=used_up)
            if read_to is not None and now - read_to <= _READ_TO:
                found += silent(self.learnt, recent, now)
            return found

        return await asyncio.to_thread(judge)


async def _keep(
    connection: asyncpg.Connection, known: Sequence[Episode], found: Sequence[Finding], now: datetime
) -> list[Finding]:
    """Begin, prolong and end episodes; those that begin are returned."""
    lasting = {place_of(one.kind, one.scope): one for one in known if one.ended_at is None}
    setting = await breaker.read_setting(connection)
    paused = await pauses.unended(connection)
    new: list[Finding] = []
    replaced: list[Episode] = []
    for one in found:
        episode = lasting.pop(place_of(one.kind, one.scope), None)
        if episode is None or _is_news(one, episode, setting, paused, now):
            new.append(one)
            replaced += [episode] if episode else []
        else:
            await anomalies.seen(connection, [episode.anomaly_id], now)
    gone = [one for one in lasting.values() if one.last_seen_at < now - _OVER_AFTER]
    await anomalies.over(connection, [one.anomaly_id for one in (*gone, *replaced)], now)
    tripping = [one for one in new if setting.covers(one.kind) and not _is_paused(one, paused, now)]
    if tripping:
        await fence.lock_catalogue(connection)
    return [one for one in new if await _begin(connection, one, setting.pause_s if one in tripping else None)]


def _is_news(one: Finding, episode: Episode, setting: Setting, paused: Sequence[Pause], now: datetime) -> bool:
    """
    Whether what lasts is to be told, and paused, once more: it goes on after its pause has ended, which is new
    evidence, or the breaker was switched on since.
    """
    if episode.pause_id is not None:
        return episode.pause_ends is not None and episode.pause_ends <= now
    return setting.covers(one.kind) and not _is_paused(one, paused, now)


def _is_paused(one: Finding, paused: Sequence[Pause], now: datetime) -> bool:
    return any(pause.scope.to_json() == one.scope and pause.holds(now) for pause in paused)


async def _begin(connection: asyncpg.Connection, one: Finding, pause_s: int | None) -> bool:
    kept = None if pause_s is None else await breaker.trip(connection, one, pause_s=pause_s)
    anomaly_id = uuid.uuid4()
    begun = await anomalies.begin(connection, anomaly_id, one, pause_id=kept.pause.pause_id if kept else None)
    if begun:
        await tell_anomaly(connection, anomaly_id, one, paused_until=kept.pause.until if kept else None)
    return begun
