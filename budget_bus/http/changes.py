"""GET /api/changes: who changed what, the audit."""

from __future__ import annotations

from pydantic import BaseModel, Field

from budget_bus.events.facts import BudgetChanged, ChangeKind
from budget_bus.http.parts import Call
from budget_bus.http.query import Page, place, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.store import changes


class ChangeQuery(Page):
    """Changes of any of these kinds; all unless one is named."""

    kind: list[ChangeKind] = Field(default_factory=list)


class ChangeList(BaseModel):
    """Changes, newest first."""

    items: list[BudgetChanged]
    next_cursor: str | None


async def list_changes(call: Call[ChangeQuery, None]) -> Answer:
    """What was changed, by whom, from what to what, as `budget.changes` tells it."""
    query = call.query
    before = read_cursor(query.cursor, place) if query.cursor else None
    rows = await changes.changes(call.parts.pool, query.kind or None, before=before, count=query.page_size + 1)
    shown = rows[: query.page_size]
    cursor = write_cursor(shown[-1]["at"], shown[-1]["change_id"]) if len(rows) > len(shown) else None
    return Answer(ChangeList(items=[BudgetChanged.model_validate(row) for row in shown], next_cursor=cursor))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/changes",
        summary="Who changed what",
        handle=list_changes,
        query=ChangeQuery,
        answers={200: ChangeList},
        tags=("reading",),
    ),
)
