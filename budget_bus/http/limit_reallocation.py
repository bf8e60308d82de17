"""/api/limits/{id}/reallocate: cut a budget anew between its allocations."""

from __future__ import annotations

from functools import partial

from budget_bus.http.budgets import budget_id_of, views
from budget_bus.http.limit_body import ReallocationBody, read_exact
from budget_bus.http.limits import LimitList
from budget_bus.http.parts import Call
from budget_bus.http.query import Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.store import limits


async def reallocate(call: Call[Query, ReallocationBody]) -> Answer:
    """
    Give a budget's allocations other percentages, all at once, so that one can grow by what another loses. The answer
    has those that were named.

    Raises:
        NotFound: there is no such budget.
        Rejected: one is no allocation of it, or all together they would have more than 100 %.
    """
    parts = call.parts
    changed = await limits.reallocate(
        parts.pool, budget_id_of(call), call.body.percents, actor=call.actor, now=parts.now()
    )
    return Answer(LimitList(items=await views(parts, changed), next_cursor=None))


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/limits/{budget_id}/reallocate",
        summary="Cut a limit anew between its allocations",
        handle=reallocate,
        body=ReallocationBody,
        read=partial(read_exact, ReallocationBody),
        answers={200: LimitList},
        tags=("administering",),
    ),
)
