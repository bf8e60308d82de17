"""/api/limits: set, show, change and remove budgets."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import BaseModel, Field

from budget_bus.bookkeeping.exchange_rates import ensure_rates
from budget_bus.errors import FieldError, NotFound, Rejected
from budget_bus.http.budgets import BudgetView, budget_id_of, view, views
from budget_bus.http.limit_body import LimitBody, LimitPatch, PeriodName, read_exact
from budget_bus.http.limit_spec import kept, patched, spec_of
from budget_bus.http.parts import Call
from budget_bus.http.query import Names, Page, Query, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.policy.budget import Budget, LimitSpec
from budget_bus.store import limits

_SCOPE_FILTERS = ("component", "provider", "model", "tier", "task_type", "user", "context_id")


class LimitQuery(Page):
    """A filter by a scope's field finds the budgets whose scope names that field and admits one of the values."""

    name: Names = Field(default_factory=list)
    period: list[PeriodName] = Field(default_factory=list)
    unit: list[Literal["cost", "tokens", "requests"]] = Field(default_factory=list)
    component: Names = Field(default_factory=list)
    provider: Names = Field(default_factory=list)
    model: Names = Field(default_factory=list)
    tier: Names = Field(default_factory=list)
    task_type: Names = Field(default_factory=list)
    user: Names = Field(default_factory=list)
    context_id: Names = Field(default_factory=list)


class LimitList(BaseModel):
    """Budgets, oldest first."""

    items: list[BudgetView]
    next_cursor: str | None


async def set_limit(call: Call[Query, LimitBody]) -> Answer:
    """
    Create a budget (201), or change the one with the same scope, period and unit (200).

    Of an existing budget only what the body names changes: a new amount must not soften a hard limit.
    """
    parts, body = call.parts, call.body
    spec = spec_of(body, parts.settings, await _parent(call))

    if spec.currency is not None:
        await ensure_rates(parts.pool, spec.currency, now=parts.now())

    # What is kept is read under the catalogue's lock: two who change different things must not undo each other's.
    def keep(before: Budget | None) -> LimitSpec:
        return kept(spec, body, before.spec if before else None)

    budget, created = await limits.set_limit(parts.pool, spec, actor=call.actor, now=parts.now(), keep=keep)
    return Answer(await view(parts, budget), 201 if created else 200)


async def list_limits(call: Call[LimitQuery, None]) -> Answer:
    """Budgets in force with the balances of their current windows."""
    query = call.query
    found = [budget for budget in await limits.list_limits(call.parts.pool) if _wanted(budget, query)]
    skip = read_cursor(query.cursor, int) if query.cursor else 0
    upto = max(0, skip) + query.page_size
    page = await views(call.parts, found[max(0, skip) : upto])
    return Answer(LimitList(items=page, next_cursor=write_cursor(upto) if upto < len(found) else None))


async def get_limit(call: Call[Query, None]) -> Answer:
    """One budget."""
    return Answer(await view(call.parts, await limits.get_limit(call.parts.pool, budget_id_of(call))))


async def change_limit(call: Call[Query, LimitPatch]) -> Answer:
    """Change some of a budget's fields; what is not named stays."""
    parts, budget_id = call.parts, budget_id_of(call)
    found = await limits.get_limit(parts.pool, budget_id)

    def keep(before: Budget | None) -> LimitSpec:
        return patched((before or found).spec, call.body)

    budget, _ = await limits.set_limit(
        parts.pool, found.spec, actor=call.actor, budget_id=budget_id, now=parts.now(), keep=keep
    )
    return Answer(await view(parts, budget))


async def remove_limit(call: Call[Query, None]) -> Answer:
    """
    Take a budget out of force.

    Raises:
        Conflict: it has allocations; these are to be removed first.
    """
    await limits.remove_limit(call.parts.pool, budget_id_of(call), actor=call.actor)
    return Answer(status=204)


async def _parent(call: Call[Query, LimitBody]) -> LimitSpec | None:
    """Only for what an allocation takes from it: whether it fits is judged when it is set."""
    if call.body.parent is None:
        return None
    try:
        return (await limits.get_limit(call.parts.pool, call.body.parent)).spec
    except NotFound:
        message = f"names no budget in force: {call.body.parent}"
        raise Rejected("invalid input", [FieldError("parent", message)]) from None


def _wanted(budget: Budget, query: LimitQuery) -> bool:
    spec = budget.spec
    for name, given in (("name", query.name), ("period", query.period), ("unit", query.unit)):
        if given and getattr(spec, name) not in given:
            return False
    for name in _SCOPE_FILTERS:
        values = getattr(query, name)
        if values and not (name in spec.scope.rules and any(spec.scope.rules[name].admits(v) for v in values)):
            return False
    return True


_TAGS = ("administering",)
ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/limits",
        summary="Set a limit",
        handle=set_limit,
        body=LimitBody,
        read=partial(read_exact, LimitBody),
        answers={201: BudgetView, 200: BudgetView},
        tags=_TAGS,
    ),
    Endpoint(
        method="GET",
        path="/api/limits",
        summary="Limits in force",
        handle=list_limits,
        query=LimitQuery,
        answers={200: LimitList},
        tags=_TAGS,
    ),
    Endpoint(
        method="GET",
        path="/api/limits/{budget_id}",
        summary="One limit",
        handle=get_limit,
        answers={200: BudgetView},
        tags=_TAGS,
    ),
    Endpoint(
        method="PATCH",
        path="/api/limits/{budget_id}",
        summary="Change a limit",
        handle=change_limit,
        body=LimitPatch,
        read=partial(read_exact, LimitPatch),
        answers={200: BudgetView},
        tags=_TAGS,
    ),
    Endpoint(
        method="DELETE",
        path="/api/limits/{budget_id}",
        summary="Remove a limit",
        handle=remove_limit,
        answers={204: None},
        tags=_TAGS,
    ),
)
