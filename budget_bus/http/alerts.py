"""GET /api/alerts: what was raised."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from budget_bus.events.facts import BudgetAlert
from budget_bus.http.parts import Call
from budget_bus.http.query import Page, place, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.store import reads


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


async def list_alerts(call: Call[AlertQuery, None]) -> Answer:
    """Alerts that were raised."""
    query = call.query
    before = read_cursor(query.cursor, place) if query.cursor else None
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


ENDPOINTS = (
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
