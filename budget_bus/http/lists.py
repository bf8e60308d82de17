"""GET /api/holds and GET /api/alerts."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from budget_bus.events.facts import BudgetAlert
from budget_bus.http.parts import Call
from budget_bus.http.query import Names, Page, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.money import format_nanos
from budget_bus.providers.names import canonical_provider
from budget_bus.store import reads


class HoldQuery(Page):
    """Open holds, unless `state` says otherwise."""

    state: Literal["open", "unconfirmed"] = "open"
    component: Names = Field(default_factory=list)
    provider: Names = Field(default_factory=list)
    model: Names = Field(default_factory=list)


class HoldView(BaseModel):
    """One hold; `amount` is its estimated cost, null if the model is unpriced."""

    request_id: UUID
    state: str
    component: str
    provider: str
    model: str
    context_id: str | None
    amount: str | None
    currency: str
    tokens: int
    decided_at: datetime
    expires_at: datetime


class HoldList(BaseModel):
    """Holds, oldest first."""

    items: list[HoldView]
    next_cursor: str | None


class AlertQuery(Page):
    """Alerts of some budgets, or those that were acknowledged or not."""

    budget_id: list[UUID] = Field(default_factory=list, max_length=100)
    acknowledged: bool | None = None


class AlertView(BudgetAlert):
    """One alert, and who took note of it."""

    acknowledged_at: datetime | None
    acknowledged_by: str | None


class AlertList(BaseModel):
    """Alerts, newest first."""

    items: list[AlertView]
    next_cursor: str | None


async def list_holds(call: Call[HoldQuery, None]) -> Answer:
    """Holds in a state."""
    query = call.query
    after = read_cursor(query.cursor, _place) if query.cursor else None
    providers = [canonical_provider(name) for name in query.provider]
    filters = {"component": query.component, "provider": providers, "model": query.model}
    rows = await reads.holds(call.parts.pool, query.state, filters=filters, after=after, count=query.page_size + 1)
    shown = rows[: query.page_size]
    cursor = write_cursor(shown[-1]["decided_at"], shown[-1]["request_id"]) if len(rows) > len(shown) else None
    items = [
        HoldView(amount=None if row["cost_nanos"] is None else format_nanos(row["cost_nanos"]), **row) for row in shown
    ]
    return Answer(HoldList(items=items, next_cursor=cursor))


async def list_alerts(call: Call[AlertQuery, None]) -> Answer:
    """Alerts that were raised."""
    query = call.query
    before = read_cursor(query.cursor, _place) if query.cursor else None
    rows = await reads.alerts(
        call.parts.pool,
        budget_ids=query.budget_id or None,
        acknowledged=query.acknowledged,
        before=before,
        count=query.page_size + 1,
    )
    shown = rows[: query.page_size]
    cursor = write_cursor(shown[-1]["raised_at"], shown[-1]["alert_id"]) if len(rows) > len(shown) else None
    items = [AlertView.model_validate({**row["payload"], **_noted(row)}) for row in shown]
    return Answer(AlertList(items=items, next_cursor=cursor))


def _noted(row: dict[str, object]) -> dict[str, object]:
    return {"acknowledged_at": row["acknowledged_at"], "acknowledged_by": row["acknowledged_by"]}


def _place(at: str, identity: str) -> tuple[datetime, UUID]:
    return datetime.fromisoformat(at), UUID(identity)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/holds",
        summary="Open holds",
        handle=list_holds,
        query=HoldQuery,
        answers={200: HoldList},
        tags=("reading",),
    ),
    Endpoint(
        method="GET",
        path="/api/alerts",
        summary="Alerts",
        handle=list_alerts,
        query=AlertQuery,
        answers={200: AlertList},
        tags=("reading",),
    ),
)
