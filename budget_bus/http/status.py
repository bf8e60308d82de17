"""GET /api/status: is everything there, how far behind, and what is left."""

from __future__ import annotations

import time
from datetime import timedelta

import asyncpg
from pydantic import BaseModel

from budget_bus import __version__
from budget_bus.errors import BudgetUnavailable
from budget_bus.events.topics import CHECK_REQUESTED, USAGE_RECORDED
from budget_bus.http.budgets import BudgetView, views
from budget_bus.http.parts import Call, Parts
from budget_bus.http.query import Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.store import limits, reads
from budget_bus.store.reads import Progress

# The consumer group of each topic that has a consumer, as the composition root names it.
GROUPS = {USAGE_RECORDED: "budget_bus.settler", CHECK_REQUESTED: "budget_bus.decider"}

DATABASE_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Database(BaseModel):
    """Whether the database answers, and its version."""

    ok: bool
    version: str | None


class Broker(BaseModel):
    """Whether the broker answers, and where a component finds it."""

    ok: bool
    bootstrap_servers: str | None
    kind: str


class TopicLag(BaseModel):
    """Records not yet applied, and for how long the oldest of them may have waited; null where nobody can tell."""

    topic: str
    group: str
    lag_messages: int | None
    lag_s: float | None


class HoldCounts(BaseModel):
    """Holds that are not closed."""

    open: int
    unconfirmed: int


class Status(BaseModel):
    """The system at a glance. With the database away, `holds` is null and `budgets` is empty."""

    version: str
    uptime_s: float
    database: Database
    broker: Broker
    topics: list[TopicLag]
    stale: bool
    holds: HoldCounts | None
    budgets: list[BudgetView]


async def status(call: Call[Query, None]) -> Answer:
    """Answers also when the database or the broker is away, and says so."""
    parts = call.parts
    version, progress, holds, budgets = None, dict[str, dict[int, Progress]](), None, list[BudgetView]()
    try:
        version = await reads.server_version(parts.pool)
        progress = {topic: await reads.progress(parts.pool, topic) for topic in GROUPS}
        holds = HoldCounts(**await reads.hold_counts(parts.pool))
        budgets = await views(parts, await limits.list_limits(parts.pool))
    except DATABASE_ERRORS:
        version = None
    broker_ok, topics = True, []
    for topic in GROUPS:
        lag = None
        if broker_ok:
            try:
                lag = await _lag(parts, topic, progress.get(topic, {}))
            except BudgetUnavailable:
                broker_ok = False
        topics.append(lag or TopicLag(topic=topic, group=_group(parts, topic), lag_messages=None, lag_s=None))
    settings = parts.settings
    return Answer(
        Status(
            version=__version__,
            uptime_s=round(time.monotonic() - parts.started_s, 3),
            database=Database(ok=version is not None, version=version),
            broker=Broker(ok=broker_ok, bootstrap_servers=settings.kafka_bootstrap_servers, kind=settings.kafka_kind),
            topics=topics,
            stale=_stale(parts, progress.get(USAGE_RECORDED, {})),
            holds=holds,
            budgets=budgets,
        )
    )


async def _lag(parts: Parts, topic: str, progress: dict[int, Progress]) -> TopicLag:
    name = parts.bus.topic(topic)
    ends = await parts.log_ends.of(name, await parts.bus.sender.partitions(name, timeout_s=3))
    now, messages, seconds = parts.now(), 0, [0.0]
    unread = False
    for part, (begin, end) in ends.items():
        behind = max(0, end - max(begin, progress[part].next_offset if part in progress else begin))
        messages += behind
        if behind and part in progress:
            seconds.append((now - progress[part].watermark_at).total_seconds())
        unread = unread or (behind > 0 and part not in progress)
    lag_s = None if unread else round(max(seconds), 3)
    return TopicLag(topic=topic, group=_group(parts, topic), lag_messages=messages, lag_s=lag_s)


def _group(parts: Parts, topic: str) -> str:
    return parts.bus.topic(GROUPS[topic])


def _stale(parts: Parts, progress: dict[int, Progress]) -> bool:
    """As the decider sees it: the oldest watermark counts, for a consumer that is gone lets it stand still."""
    if not progress:
        return True
    oldest = min(p.watermark_at for p in progress.values())
    return parts.now() - oldest > timedelta(seconds=parts.settings.stale_after_s)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/status",
        summary="The system at a glance",
        handle=status,
        answers={200: Status},
        tags=("reading",),
    ),
)
