"""GET /api/anomalies: what looked wrong in how money was spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from budget_bus.errors import FieldError, Rejected
from budget_bus.http.parts import Call, Reading
from budget_bus.http.query import Moment, Names, Page, place, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.money import Nanos, format_nanos
from budget_bus.store import anomalies
from budget_bus.store.anomalies import Finding, Told

_REPORTED = 100
Kind = Literal["velocity", "loop", "silence"]


class AnomalyQuery(Page):
    """Anomalies found in `[since, until)`; `lasting` tells those that go on from those that are over."""

    kind: list[Kind] = Field(default_factory=list)
    component: Names = Field(default_factory=list)
    lasting: bool | None = None
    since: Moment | None = None
    until: Moment | None = None


class Anomaly(BaseModel):
    """
    Something that looked wrong: `observed` went beyond `expected`, the edge of what is usual; in USD, or in requests.
    Silence observed 0 requests where there usually are `expected`.
    """

    at: datetime
    scope: dict[str, Any]
    observed: str
    expected: str
    reason: str


class AnomalyView(Anomaly):
    """
    One anomaly, from when it was found (`at`) to when it was seen to be over (`ended_at`); its evidence begins at
    `since`. `pause_id` is the pause by which the breaker answered.
    """

    anomaly_id: UUID
    kind: Kind
    since: datetime
    unit: Literal["cost", "requests"]
    currency: str | None
    last_seen_at: datetime
    ended_at: datetime | None
    pause_id: UUID | None


class AnomalyList(BaseModel):
    """Anomalies, newest first."""

    items: list[AnomalyView]
    next_cursor: str | None


async def list_anomalies(call: Call[AnomalyQuery, None]) -> Answer:
    """
    What looked wrong: spend outside of its learned band, loops, silence.

    Raises:
        Rejected: names the parameter that is wrong and what it may be.
    """
    query = call.query
    if query.since and query.until and query.since >= query.until:
        raise Rejected("invalid query", [FieldError("until", "must be after since")])
    found = await anomalies.page(
        call.parts.pool,
        kinds=query.kind,
        components=query.component,
        lasting=query.lasting,
        since=query.since,
        until=query.until,
        before=read_cursor(query.cursor, place) if query.cursor else None,
        count=query.page_size + 1,
    )
    shown = found[: query.page_size]
    last = shown[-1] if len(found) > len(shown) else None
    cursor = write_cursor(last.finding.at, last.anomaly_id) if last else None
    return Answer(AnomalyList(items=[_view(one) for one in shown], next_cursor=cursor))


async def found_between(
    parts: Reading, start: datetime, end: datetime, filters: Mapping[str, Sequence[str]]
) -> list[Anomaly]:
    """The newest anomalies found in `[start, end)` whose scope is not outside of *filters*."""
    found = await anomalies.page(parts.pool, since=start, until=end, count=_REPORTED)
    return [
        Anomaly(**_told(one.finding))
        for one in found
        if all(value in filters[name] for name, value in one.finding.scope.items() if filters.get(name))
    ]


def _told(found: Finding) -> dict[str, Any]:
    cost = found.unit == "cost"
    observed, expected = (format_nanos(Nanos(n)) if cost else str(n) for n in (found.observed, found.expected))
    return {
        "at": found.at, "scope": found.scope, "observed": observed, "expected": expected, "reason": found.reason
    }  # fmt: skip


def _view(one: Told) -> AnomalyView:
    found = one.finding
    return AnomalyView.model_validate(
        {
            **_told(found),
            "anomaly_id": one.anomaly_id,
            "kind": found.kind,
            "since": found.since,
            "unit": found.unit,
            "currency": found.currency,
            "last_seen_at": one.last_seen_at,
            "ended_at": one.ended_at,
            "pause_id": one.pause_id,
        }
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/anomalies",
        summary="Anomalies",
        handle=list_anomalies,
        query=AnomalyQuery,
        answers={200: AnomalyList},
        tags=("reading",),
    ),
)
