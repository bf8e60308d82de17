"""GET /api/forecasts: what every budget will come to, and when it runs out."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, Field

from budget_bus.http.budgets import concerns
from budget_bus.http.outlook import ReportedBudget, reported
from budget_bus.http.parts import Call
from budget_bus.http.query import Names, Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.providers.names import canonical_provider
from budget_bus.store import limits


class ForecastQuery(Query):
    """Forecasts of some budgets, or of those whose scope does not contradict what is named."""

    budget_id: list[UUID] = Field(default_factory=list, max_length=100)
    component: Names = Field(default_factory=list)
    provider: Names = Field(default_factory=list)
    model: Names = Field(default_factory=list)


class ForecastList(BaseModel):
    """All budgets that were asked for, oldest first; there is no next page."""

    items: list[ReportedBudget]
    next_cursor: None = None


async def list_forecasts(call: Call[ForecastQuery, None]) -> Answer:
    """What budgets will come to by the end of their windows, with a band, and when they run out."""
    query = call.query
    named = {
        "component": query.component,
        "provider": [canonical_provider(name) for name in query.provider],
        "model": query.model,
    }
    budgets = [
        budget
        for budget in await limits.list_limits(call.parts.pool)
        if concerns(budget, named) and (not query.budget_id or budget.budget_id in query.budget_id)
    ]
    return Answer(ForecastList(items=await reported(call.parts, budgets, call.parts.now())))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/forecasts",
        summary="What budgets will come to",
        handle=list_forecasts,
        query=ForecastQuery,
        answers={200: ForecastList},
        tags=("reading",),
    ),
)
