"""GET /api/integrations: which components use the service, and what looks wrong with how they do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pydantic import BaseModel, Field

from budget_bus.http.parts import Call
from budget_bus.http.query import Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.store.integrations import Integration, integrations

_NAMED = 3  # models in one sentence


class IntegrationQuery(Query):
    """The days until now to look at."""

    days: int = Field(7, ge=1, le=366)


class UnpricedModel(BaseModel):
    """A model without a price, and how many calls of it were recorded."""

    provider: str
    model: str
    requests: int


class IntegrationView(BaseModel):
    """
    One component. `holds` counts what was held for it by what became of it: open, settled, voided, expired,
    unconfirmed. `findings` says in words what looks wrong; empty is good.
    """

    component: str
    requests: int
    last_occurred_at: datetime | None
    last_recorded_at: datetime | None
    unpriced_requests: int
    unpriced: list[UnpricedModel]
    checks: int
    denied: int
    last_check_at: datetime | None
    holds: dict[str, int]
    findings: list[str]


class IntegrationList(BaseModel):
    """Components by name, on one page."""

    items: list[IntegrationView]
    next_cursor: str | None


async def list_integrations(call: Call[IntegrationQuery, None]) -> Answer:
    """Who published what and when, who never settles, and who uses models that have no price."""
    end = call.parts.now()
    found = await integrations(call.parts.pool, end - timedelta(days=call.query.days), end)
    return Answer(IntegrationList(items=[_view(one) for one in found], next_cursor=None))


def _view(one: Integration) -> IntegrationView:
    return IntegrationView(
        component=one.component,
        requests=one.requests,
        last_occurred_at=one.last_occurred_at,
        last_recorded_at=one.last_recorded_at,
        unpriced_requests=one.unpriced_requests,
        unpriced=[UnpricedModel(provider=p, model=m, requests=count) for p, m, count in one.unpriced],
        checks=one.checks,
        denied=one.denied,
        last_check_at=one.last_check_at,
        holds=one.holds,
        findings=[*_findings(one)],
    )


def _findings(one: Integration) -> Iterator[str]:
    lapsed = one.holds.get("expired", 0) + one.holds.get("unconfirmed", 0)
    if lapsed and not one.holds.get("settled"):
        yield f"never settles: of its holds {lapsed} ran out and none was settled by recorded usage"
    elif lapsed:
        yield f"{lapsed} of its holds ran out without recorded usage"
    if one.checks and not one.requests:
        yield "asks, but has recorded no usage"
    if one.requests and not one.checks:
        yield "records without asking: a hard limit cannot hold it back"
    if one.unpriced:
        names = ", ".join(f"{provider}/{model}" for provider, model, _ in one.unpriced[:_NAMED])
        more = f" and {len(one.unpriced) - _NAMED} more" if len(one.unpriced) > _NAMED else ""
        yield f"uses models without a price: {names}{more}; `budget prices set` gives them one"


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/integrations",
        summary="Components and how they use the service",
        handle=list_integrations,
        query=IntegrationQuery,
        answers={200: IntegrationList},
        tags=("reading",),
    ),
)
