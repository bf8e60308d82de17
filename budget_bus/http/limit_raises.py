"""/api/limits/{id}/raise: let a limit be higher for a time."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from budget_bus.http.budgets import BudgetView, budget_id_of, view
from budget_bus.http.limit_body import RaiseBody, read_exact
from budget_bus.http.limit_spec import amount_of
from budget_bus.http.parts import Call
from budget_bus.http.query import Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.store import limits


async def raise_limit(call: Call[Query, RaiseBody]) -> Answer:
    """Raise a limit until a moment, when it ends by itself. Raises add up."""
    parts, body = call.parts, call.body
    budget_id, now = budget_id_of(call), parts.now()
    unit = (await limits.get_limit(parts.pool, budget_id)).spec.unit
    budget = await limits.raise_limit(
        parts.pool,
        budget_id,
        amount_of(body.amount, unit, "amount"),
        until=body.expires_at or now + timedelta(seconds=body.ttl_s or 0),
        actor=call.actor,
        reason=body.reason,
        now=now,
    )
    return Answer(await view(parts, budget))


async def end_raises(call: Call[Query, None]) -> Answer:
    """End all raises of a limit now; where there are none, nothing changes."""
    parts = call.parts
    budget = await limits.end_raises(parts.pool, budget_id_of(call), actor=call.actor, now=parts.now())
    return Answer(await view(parts, budget))


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/limits/{budget_id}/raise",
        summary="Raise a limit for a time",
        handle=raise_limit,
        body=RaiseBody,
        read=partial(read_exact, RaiseBody),
        answers={200: BudgetView},
        tags=("administering",),
    ),
    Endpoint(
        method="DELETE",
        path="/api/limits/{budget_id}/raise",
        summary="End a limit's raises",
        handle=end_raises,
        answers={200: BudgetView},
        tags=("administering",),
    ),
)
