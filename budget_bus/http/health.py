"""/health/live, /health/ready and /metrics."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from budget_bus import metrics
from budget_bus.errors import BudgetUnavailable
from budget_bus.events.topics import BUDGET_ALERTS, CHECK_REQUESTED, CHECK_RESPONSE, INBOUND, USAGE_RECORDED
from budget_bus.http.parts import Call, Parts
from budget_bus.http.query import Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.http.status import DATABASE_ERRORS
from budget_bus.store import reads

_CONSUMED = (USAGE_RECORDED, CHECK_REQUESTED)
NEEDED = (*INBOUND, CHECK_RESPONSE, BUDGET_ALERTS)


class Live(BaseModel):
    """The process answers."""

    status: str = "live"


class Readiness(BaseModel):
    """What requests need, each "ok" or what is wrong with it."""

    ready: bool
    checks: dict[str, str]


async def live(_call: Call[Query, None]) -> Answer:
    """Answers as long as the process does."""
    return Answer(Live())


async def ready(call: Call[Query, None]) -> Answer:
    """200 once requests can be served, else 503 with what is missing."""
    parts = call.parts
    checks = {
        "database": await _database(parts),
        "broker": await _broker(parts),
        "answers": "ok" if parts.bus.listening else "not listening to check.response",
    }
    waiting = [topic for topic in _CONSUMED if topic not in parts.consumed]
    if waiting and checks["database"] == "ok":
        # Asked until they were there once: a later absence shows in /api/status, and must not take all gateways away.
        parts.consumed.update(await reads.consumed(parts.pool, waiting))
        waiting = [topic for topic in waiting if topic not in parts.consumed]
    checks["consumers"] = f"nobody reads {', '.join(waiting)} yet" if waiting else "ok"
    good = all(said == "ok" for said in checks.values())
    return Answer(Readiness(ready=good, checks=checks), 200 if good else 503)


async def show_metrics(_call: Call[Query, None]) -> Answer:
    """Everything that this process counts, in Prometheus' text format."""
    return Answer(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)


async def _database(parts: Parts) -> str:
    try:
        await reads.progress(parts.pool, INBOUND[0])
    except DATABASE_ERRORS as error:
        return f"does not answer: {error}"
    return "ok"


async def _broker(parts: Parts) -> str:
    try:
        found = await parts.bus.sender.topics(timeout_s=3)
    except BudgetUnavailable as error:
        return error.detail
    missing = [topic for topic in NEEDED if parts.bus.topic(topic) not in found]
    return f"has no topic {', '.join(missing)}; run `budget topics apply`" if missing else "ok"


# Load balancers have no keys, so the first two ask for none.
_TAGS = ("health",)
ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/health/live",
        summary="Is it alive?",
        handle=live,
        answers={200: Live},
        tags=_TAGS,
        open_to_all=True,
    ),
    Endpoint(
        method="GET",
        path="/health/ready",
        summary="Can it serve?",
        handle=ready,
        answers={200: Readiness, 503: Readiness},
        tags=_TAGS,
        open_to_all=True,
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        summary="Metrics",
        handle=show_metrics,
        answers={200: None},
        tags=_TAGS,
        produces="text/plain",
    ),
)
