"""GET /api/decisions: what checks were answered, and why."""

from __future__ import annotations

import json
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from budget_bus.errors import FieldError, NotFound, Rejected
from budget_bus.events.checks import CheckResponse
from budget_bus.http.parts import Call
from budget_bus.http.query import Moment, Names, Page, Query, place, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.providers.names import canonical_provider
from budget_bus.store import decisions


class DecisionQuery(Page):
    """Decisions of `[since, until)`; with `budget_id` those that considered one of these budgets."""

    component: Names = Field(default_factory=list)
    provider: Names = Field(default_factory=list)
    model: Names = Field(default_factory=list)
    action: list[Literal["allow", "warn", "degrade", "deny"]] = Field(default_factory=list)
    budget_id: list[UUID] = Field(default_factory=list, max_length=100)
    since: Moment | None = None
    until: Moment | None = None


class DecisionView(CheckResponse):
    """A decision and who asked for what; null in those of earlier releases."""

    component: str | None
    provider: str | None
    model: str | None


class DecisionList(BaseModel):
    """Decisions, newest first."""

    items: list[DecisionView]
    next_cursor: str | None


async def list_decisions(call: Call[DecisionQuery, None]) -> Answer:
    """
    Decisions as they were answered.

    Raises:
        Rejected: names the parameter that is wrong and what it may be.
    """
    query = call.query
    if query.since and query.until and query.since >= query.until:
        raise Rejected("invalid query", [FieldError("until", "must be after since")])
    found = await decisions.decisions(
        call.parts.pool,
        actions=query.action,
        budget_ids=query.budget_id,
        since=query.since,
        until=query.until,
        filters={
            "component": query.component,
            "provider": [canonical_provider(name) for name in query.provider],
            "model": query.model,
        },
        before=read_cursor(query.cursor, place) if query.cursor else None,
        count=query.page_size + 1,
    )
    shown = found[: query.page_size]
    cursor = write_cursor(shown[-1].decided_at, shown[-1].request_id) if len(found) > len(shown) else None
    # Not through the model: what an older release answered is shown as it was, also where the model has grown since.
    items = ",".join(_item(one) for one in shown)
    return Answer(f'{{"items":[{items}],"next_cursor":{json.dumps(cursor)}}}'.encode())


def _item(one: decisions.Logged) -> str:
    who = json.dumps({"component": one.component, "provider": one.provider, "model": one.model})
    return f"{who[:-1]},{one.answer[1:]}"


async def get_decision(call: Call[Query, None]) -> Answer:
    """
    One decision, byte for byte as it was answered.

    Raises:
        NotFound: no check with that id was decided.
    """
    text = call.path["request_id"]
    try:
        request_id = UUID(text)
    except ValueError:
        raise NotFound(f"no decision {text!r}; a request_id is a UUID, as GET /api/decisions lists it") from None
    return Answer((await decisions.decision(call.parts.pool, request_id)).encode())


_TAGS = ("reading",)
ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/decisions",
        summary="Decisions",
        handle=list_decisions,
        query=DecisionQuery,
        answers={200: DecisionList},
        tags=_TAGS,
    ),
    Endpoint(
        method="GET",
        path="/api/decisions/{request_id}",
        summary="One decision",
        handle=get_decision,
        answers={200: CheckResponse},
        tags=_TAGS,
    ),
)
