"""/api/limits: set, show, change and remove budgets."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from budget_bus.errors import NotFound
from budget_bus.http.budgets import BudgetView, views
from budget_bus.http.limit_body import KEPT, LimitBody, LimitPatch, patched, read_exact, same_budget, spec_of
from budget_bus.http.parts import Call
from budget_bus.http.query import Names, Page, Query, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.policy.budget import Budget
from budget_bus.store import limits

_SCOPE_FILTERS = ("component", "provider", "model", "tier", "task_type", "user", "context_id")


class LimitQuery(Page):
    """A filter by a scope's field finds the budgets whose scope names that field and admits one of the values."""

    name: Names = Field(default_factory=list)
    period: list[Literal["hourly", "daily", "weekly", "monthly", "total"]] = Field(default_factory=list)
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
    spec = spec_of(call.body, call.parts.settings)
    for budget in await limits.list_limits(call.parts.pool):
        if same_budget(budget.spec, spec):
            unnamed = set(KEPT) - call.body.model_fields_set
            spec = replace(spec, **{name: getattr(budget.spec, name) for name in unnamed})
    budget, created = await limits.set_limit(call.parts.pool, spec, actor=call.actor)
    return Answer(await _view(call, budget), 201 if created else 200)


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
    return Answer(await _view(call, await limits.get_limit(call.parts.pool, _id(call))))


async def change_limit(call: Call[Query, LimitPatch]) -> Answer:
    """Change some of a budget's fields; what is not named stays."""
    before = await limits.get_limit(call.parts.pool, _id(call))
    spec = patched(before.spec, call.body)
    budget, _ = await limits.set_limit(call.parts.pool, spec, actor=call.actor, budget_id=before.budget_id)
    return Answer(await _view(call, budget))


async def remove_limit(call: Call[Query, None]) -> Answer:
    """Take a budget out of force."""
    await limits.remove_limit(call.parts.pool, _id(call), actor=call.actor)
    return Answer(status=204)


async def _view(
    call: Call[Query, LimitBody] | Call[Query, LimitPatch] | Call[Query, None], budget: Budget
) -> BudgetView:
    (view,) = await views(call.parts, [budget])
    return view


def _id(call: Call[Query, LimitPatch] | Call[Query, None]) -> UUID:
    text = call.path["budget_id"]
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"no budget {text!r}; a budget_id is a UUID, as GET /api/limits lists it") from None


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
