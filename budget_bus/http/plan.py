"""GET /api/plan: how much a component may plan to spend until a moment, with what confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field

from budget_bus.errors import FieldError, Rejected
from budget_bus.events.fields import Name
from budget_bus.http.outlook import STALE, path_of
from budget_bus.http.parts import Call, Parts
from budget_bus.http.query import Moment, Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.insight.plan import Asked, Room, open_fields, room
from budget_bus.money import format_nanos
from budget_bus.policy.budget import Budget, Policy, Unit
from budget_bus.policy.exchange import ExchangeRates, utc_day
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.providers.names import canonical_provider, tier_of
from budget_bus.store import exchange, forecasts, limits, reads, windows

_FURTHEST = timedelta(days=366)


class PlanQuery(Query):
    """Whose plan, until when, and how sure it is to be; `provider`, `model` and `task_type` say more of the calls."""

    component: Name
    until: Moment
    confidence: Annotated[float, Field(ge=0.5, le=0.99)] = 0.9
    provider: Name | None = None
    model: Name | None = None
    task_type: Name | None = None


class PlannedBudget(BaseModel):
    """
    One hard budget. `amount` is what is left of it for the component: `available` now and the limits of later windows
    (there are `windows` of them in all), less what is kept for `others`. `backed` says whether the confidence is that
    of back-tests.

    One that does not count is about fields that the question leaves open; `explanation` names them.
    """

    budget_id: UUID
    name: str
    scope: dict[str, Any]
    period: str
    unit: str
    currency: str | None
    counts: bool
    binding: bool = False
    available: str | None = None
    others: str | None = None
    amount: str | None = None
    windows: int = 0
    backed: bool = False
    backtests: int = 0
    explanation: str


class PlanView(BaseModel):
    """
    What `component` may plan to spend until `until`: the least that any hard budget leaves. `amount` is null if no hard
    budget that counts cost would bind it, `tokens` and `requests` if none that counts these would.

    With `confidence` p: in p of the back-tests, what all others spent of the budget until then was at most what is kept
    for them. It is so for each budget by itself, and as far as the future is like the past. `backed` is false if one of
    the budgets has too little history for that. `sentence` says it in words.
    """

    component: str
    until: datetime
    confidence: float
    backed: bool
    currency: str
    amount: str | None
    tokens: str | None
    requests: str | None
    binding_budget: UUID | None
    sentence: str
    budgets: list[PlannedBudget]
    as_of: datetime


async def plan(call: Call[PlanQuery, None]) -> Answer:
    """
    What a component may plan to spend, given what the others are forecast to.

    Raises:
        Rejected: `until` is past, or too far ahead.
    """
    parts, query = call.parts, call.query
    now = parts.now()
    if not now < query.until <= now + _FURTHEST:
        message = f"must lie after {now.isoformat()} and within {_FURTHEST.days} days of it"
        raise Rejected("invalid query", [FieldError("until", message)])
    asked = Asked(_fields(query), now, query.until, query.confidence)
    default = await reads.default_policy(parts.pool, Policy(parts.settings.enforcement_level))
    hard = [
        budget
        for budget in await limits.list_limits(parts.pool)
        if (budget.spec.policy or default) is Policy.HARD_LIMIT and not budget.spec.shadow
    ]
    wanted = [(budget, missing) for budget in hard if (missing := open_fields(budget, asked)) is not None]
    rates = await exchange.on_day(parts.pool, utc_day(now))
    rooms = await _rooms(parts, [budget for budget, missing in wanted if not missing], asked)
    return Answer(_view(query, wanted, rooms, rates=rates, now=now))


def _fields(query: PlanQuery) -> dict[str, str]:
    fields = {"component": query.component}
    if query.provider:
        fields["provider"] = canonical_provider(query.provider)
    if query.model:
        fields["model"] = query.model
    if query.provider and query.model:
        fields["tier"] = tier_of(fields["provider"], query.model)
    if query.task_type:
        fields["task_type"] = query.task_type
    return fields


async def _rooms(parts: Parts, budgets: Sequence[Budget], asked: Asked) -> dict[UUID, Room]:
    taken = await windows.current(parts.pool, budgets, asked.now)
    component = asked.fields["component"]
    stored = await forecasts.read(parts.pool, [budget.budget_id for budget in budgets], leaving_out=component)
    oldest = asked.now - STALE * timedelta(seconds=parts.settings.forecast_interval)
    found = {}
    for budget, (window, balance) in zip(budgets, taken, strict=True):
        assert window is not None  # noqa: S101 - only per_context budgets have none, and these are left open
        others = path_of(stored.get(budget.budget_id), window, oldest=oldest)
        found[budget.budget_id] = room(budget, window, balance, others, asked)
    return found


def _view(
    query: PlanQuery,
    wanted: Sequence[tuple[Budget, list[str]]],
    rooms: Mapping[UUID, Room],
    *,
    rates: ExchangeRates,
    now: datetime,
) -> PlanView:
    least: dict[Unit, tuple[int, Budget]] = {}
    for budget, _ in wanted:
        if budget.budget_id in rooms:
            amount = _in_prices(budget, rooms[budget.budget_id].amount, rates, now)
            unit = budget.spec.unit
            if amount is not None and (unit not in least or amount < least[unit][0]):
                least[unit] = (amount, budget)
    binding = {budget.budget_id for _, budget in least.values()}
    backed = all(one.backed for one in rooms.values())
    amount, bound = least.get(Unit.COST, (None, None))
    return PlanView(
        component=query.component,
        until=query.until,
        confidence=query.confidence,
        backed=backed,
        currency=PRICE_CURRENCY,
        amount=None if amount is None else format_nanos(amount),
        tokens=str(least[Unit.TOKENS][0]) if Unit.TOKENS in least else None,
        requests=str(least[Unit.REQUESTS][0]) if Unit.REQUESTS in least else None,
        binding_budget=bound.budget_id if bound else None,
        sentence=_sentence(query, amount, bound, backed),
        budgets=[_planned(budget, missing, rooms.get(budget.budget_id), binding) for budget, missing in wanted],
        as_of=now,
    )


def _in_prices(budget: Budget, amount: int, rates: ExchangeRates, now: datetime) -> int | None:
    """An amount of a cost budget in the currency of prices, by today's rate; of another one as it is."""
    if budget.spec.unit is not Unit.COST:
        return amount
    return rates.convert(amount, budget.spec.currency or PRICE_CURRENCY, PRICE_CURRENCY, utc_day(now))


def _planned(budget: Budget, missing: Sequence[str], found: Room | None, binding: set[UUID]) -> PlannedBudget:
    spec = budget.spec
    about: dict[str, Any] = {"budget_id": budget.budget_id, "name": spec.name, "scope": spec.scope.to_json(),
             "period": spec.period.value, "unit": spec.unit.value, "currency": spec.currency}  # fmt: skip
    if found is None:
        names = ", ".join(missing)
        return PlannedBudget(**about, counts=False, explanation=f"counts only some calls: it depends on {names}")
    return PlannedBudget(
        **about,
        counts=True,
        binding=budget.budget_id in binding,
        available=budget.write(found.available),
        others=budget.write(found.others),
        amount=budget.write(found.amount),
        windows=found.windows,
        backed=found.backed,
        backtests=found.backtests,
        explanation=found.explanation,
    )


def _sentence(query: PlanQuery, amount: int | None, bound: Budget | None, backed: bool) -> str:
    until = query.until.isoformat().replace("+00:00", "Z")
    if amount is None or bound is None:
        return f"No hard budget that counts cost would bind {query.component} until {until}."
    sure = f"with {query.confidence:.0%} confidence" if backed else "at the present rate of all others"
    return (
        f"{query.component} may plan to spend up to {format_nanos(amount)} {PRICE_CURRENCY} until {until}, {sure}; "
        f"budget {bound.spec.name!r} binds."
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/plan",
        summary="How much may be planned",
        handle=plan,
        query=PlanQuery,
        answers={200: PlanView},
        tags=("reading",),
    ),
)
