"""/api/alerts: what was raised, and taking note of it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from budget_bus.errors import NotFound
from budget_bus.events.facts import BudgetAlert
from budget_bus.http.body import read_json
from budget_bus.http.parts import Call
from budget_bus.http.query import Page, Query, place, read_cursor, write_cursor
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


class NothingMore(BaseModel):
    """Nothing needs to be said."""

    model_config = ConfigDict(extra="forbid")


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


async def acknowledge(call: Call[Query, NothingMore]) -> Answer:
    """
    Take note of an alert. Whoever did it first stays named, so that doing it again changes nothing.

    Raises:
        NotFound: there is no such alert.
    """
    text = call.path["alert_id"]
    try:
        alert_id = UUID(text)
    except ValueError:
        raise NotFound(f"no alert {text!r}; an alert_id is a UUID, as GET /api/alerts lists it") from None
    row = await reads.acknowledge(call.parts.pool, alert_id, actor=call.actor, now=call.parts.now())
    return Answer(AlertView.model_validate({**row["payload"], **_noted(row)}))


def _read_nothing(raw: bytes) -> NothingMore:
    return read_json(NothingMore, raw or b"{}")


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
    Endpoint(
        method="POST",
        path="/api/alerts/{alert_id}/acknowledge",
        summary="Take note of an alert",
        handle=acknowledge,
        body=NothingMore,
        read=_read_nothing,
        optional=True,
        answers={200: AlertView},
        tags=("administering",),
    ),
)
