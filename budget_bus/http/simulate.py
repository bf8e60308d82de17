"""POST /api/simulate: the past again, under other limits, prices, models."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from budget_bus.errors import FieldError, NotFound, Rejected
from budget_bus.events.fields import Instant, Name, ServiceTier
from budget_bus.http.limit_body import BudgetId, LimitBody, LimitPatch, Whole, read_exact
from budget_bus.http.limit_spec import kept, patched, spec_of
from budget_bus.http.pace import TooMany
from budget_bus.http.parts import Call, Parts
from budget_bus.http.prices import PriceBody, stored_rates
from budget_bus.http.query import Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.insight.replay import Caching, Outcome, Proposal, Swap, TierChange, replay
from budget_bus.insight.replay.outcome import BudgetOutcome, Compared, Refusal, Sums
from budget_bus.keys.key import KeyRole
from budget_bus.money import format_nanos
from budget_bus.policy.allocation import check_allocation
from budget_bus.policy.budget import Budget, LimitSpec, Policy
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.policy.scope import Scope, parse_scope
from budget_bus.providers.names import canonical_provider
from budget_bus.providers.own import OwnPrice, price_from
from budget_bus.providers.prices import PriceBook
from budget_bus.store import limits

_RETRY_AFTER_S = 5
_SINCE = datetime(2000, 1, 1, tzinfo=UTC)  # a proposed price without a date holds for all of the past
_MOST = 100
Percent = Annotated[int, Whole, Field(ge=0, le=100)]


class _Proposed(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class LimitChange(LimitPatch):
    """A budget in force, and what of it is proposed to be other."""

    budget_id: BudgetId


class SwapBody(_Proposed):
    """Calls of `scope` go to this model instead, with the tokens that they had."""

    scope: dict[str, Any] = Field(default_factory=dict)
    provider: Name
    model: Name


class TierBody(_Proposed):
    """Calls of `scope` are made in another service tier."""

    scope: dict[str, Any] = Field(default_factory=dict)
    service_tier: ServiceTier


class CachingBody(_Proposed):
    """Of the uncached input of calls of `scope` so many percent are read from a cache, and so many written to it."""

    scope: dict[str, Any] = Field(default_factory=dict)
    read_percent: Percent
    write_percent: Percent = 0


class SimulateBody(_Proposed):
    """
    The range `[start, end)` and what is proposed; nothing: the past as it was. `limits` are as in POST /api/limits,
    `changes` are of budgets in force, `removed` are left out. With `if_all_asked` each event without a check is decided
    as if one had been asked for, for just what it used.
    """

    start: Instant
    end: Instant
    limits: Annotated[list[LimitBody], Field(max_length=_MOST)] = []
    changes: Annotated[list[LimitChange], Field(max_length=_MOST)] = []
    removed: Annotated[list[BudgetId], Field(max_length=_MOST)] = []
    prices: Annotated[list[PriceBody], Field(max_length=_MOST)] = []
    swaps: Annotated[list[SwapBody], Field(max_length=_MOST)] = []
    tiers: Annotated[list[TierBody], Field(max_length=_MOST)] = []
    caching: Annotated[list[CachingBody], Field(max_length=_MOST)] = []
    if_all_asked: bool = False


class SumsView(BaseModel):
    """Exact sums; `other_costs` are in currencies other than the answer's."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost: str
    unpriced_requests: int
    other_costs: dict[str, str]


class ComparedView(BaseModel):
    """
    What calls came to, and would have come to; `refused` would not have been made; `saved` is actual less simulated.
    """

    actual: SumsView
    simulated: SumsView
    refused: SumsView
    saved: str


class ComponentView(ComparedView):
    """One component's."""

    component: str


class ExhaustedView(BaseModel):
    """A window that was used up, and when."""

    window_start: datetime
    window_end: datetime | None
    context_id: str | None
    at: datetime


class SimulatedBudget(BaseModel):
    """
    What one budget would have done: calls that it would have refused and what they cost, and its fullest moment, in its
    unit. `peak_percent` is null where the limit is 0.
    """

    budget_id: uuid.UUID
    name: str
    unit: str
    currency: str | None
    refused: int
    refused_cost: str
    first_refused_at: datetime | None
    peak: str
    peak_limit: str
    peak_percent: int | None
    peak_at: datetime | None
    exhausted: list[ExhaustedView]


class ChecksView(BaseModel):
    """
    Decisions of the range. `identical` are those that production gave: action, budget and hold; `same_balances` also in
    every balance that was shown with them. `refused` were allowed, `allowed` were denied. `taken_over` are denials that
    no balance explains (stale, paused). `not_replayable`: earlier releases did not keep what was asked.
    """

    decided: int
    identical: int
    same_balances: int
    refused: int
    allowed: int
    denied_as_before: int
    taken_over: int
    not_replayable: int


class RefusalView(BaseModel):
    """One call that would have been refused."""

    at: datetime
    budget_id: uuid.UUID | None
    budget: str | None
    component: str
    model: str
    reason: str | None


class Simulation(BaseModel):
    """
    What a replay found. Costs are exact, but for `assumed`: calls that were denied and would have been allowed, taken
    at what they asked for; they are in `total.simulated`. `refusals` are the first ones of `refusal_count`.
    """

    start: datetime
    end: datetime
    currency: str
    total: ComparedView
    components: list[ComponentView]
    budgets: list[SimulatedBudget]
    checks: ChecksView
    assumed: SumsView
    refusal_count: int
    refusals: list[RefusalView]
    differences: list[str]
    warnings: list[str]


async def simulate(call: Call[Query, SimulateBody]) -> Answer:
    """
    Replay a range; one at a time in each gateway.

    Raises:
        Rejected: names what is wrong with the range or the proposal.
        TooMany: another one is under way.
    """
    parts, body = call.parts, call.body
    proposal = await _proposal(parts, body)
    if parts.simulating.locked():
        busy = TooMany("another simulation is under way here; try again when it has ended")
        busy.retry_after_s = _RETRY_AFTER_S
        raise busy
    async with parts.simulating:
        outcome = await replay(
            parts.pool, PriceBook(), start=body.start, end=body.end, proposal=proposal,
            default_policy=Policy(parts.settings.enforcement_level), max_rows=parts.settings.simulate_max_rows,
        )  # fmt: skip
        view = await asyncio.to_thread(_view, body, outcome)
    return Answer(view)


async def _proposal(parts: Parts, body: SimulateBody) -> Proposal:
    in_force = {budget.budget_id: budget for budget in await limits.list_limits(parts.pool)}
    specs = _specs(parts, body, in_force)
    _check(specs, {i: b for i, b in in_force.items() if i not in body.removed})
    return Proposal(
        swaps=tuple(Swap(_scope(s.scope), canonical_provider(s.provider), s.model) for s in body.swaps),
        tiers=tuple(TierChange(_scope(t.scope), t.service_tier) for t in body.tiers),
        caching=tuple(_caching(c) for c in body.caching),
        prices=tuple(_price(one) for one in body.prices),
        limits=specs,
        removed=frozenset(body.removed),
        ask_unchecked=body.if_all_asked,
    )


def _specs(parts: Parts, body: SimulateBody, in_force: dict[uuid.UUID, Budget]) -> dict[uuid.UUID, LimitSpec]:
    specs: dict[uuid.UUID, LimitSpec] = {}
    for wanted in body.limits:
        parent = in_force.get(wanted.parent) if wanted.parent else None
        if wanted.parent and parent is None:
            raise _wrong("limits", f"names a parent that is not in force: {wanted.parent}")
        spec = spec_of(wanted, parts.settings, parent.spec if parent else None)
        same = next((b for b in in_force.values() if _identity(b.spec) == _identity(spec)), None)
        specs[same.budget_id if same else uuid.uuid4()] = kept(spec, wanted, same.spec if same else None)
    for change in body.changes:
        budget = in_force.get(change.budget_id)
        if budget is None:
            raise NotFound(f"no budget {change.budget_id}")
        specs[change.budget_id] = patched(specs.get(change.budget_id, budget.spec), change)
    for budget_id in body.removed:
        if budget_id not in in_force:
            raise NotFound(f"no budget {budget_id}")
    return specs


def _check(specs: dict[uuid.UUID, LimitSpec], left: dict[uuid.UUID, Budget]) -> None:
    proposed = left | {
        budget_id: Budget(budget_id, spec, 1, parent=left.get(spec.parent_id) if spec.parent_id else None)
        for budget_id, spec in specs.items()
    }
    for budget_id, budget in proposed.items():
        check_allocation(budget.spec, budget_id, proposed)


def _identity(spec: LimitSpec) -> Any:
    return spec.scope.to_json(), spec.period, spec.unit


def _scope(raw: dict[str, Any]) -> Scope:
    return parse_scope(raw, provider_name=canonical_provider)


def _caching(body: CachingBody) -> Caching:
    if body.read_percent + body.write_percent > 100:
        raise _wrong("caching", "read_percent and write_percent are together more than 100")
    return Caching(_scope(body.scope), body.read_percent, body.write_percent)


def _price(body: PriceBody) -> OwnPrice:
    price = price_from(stored_rates(body), currency=body.currency, source="proposed")
    since = body.effective_from or _SINCE
    return OwnPrice(canonical_provider(body.provider), body.model, body.service_tier, since, price)


def _wrong(field: str, message: str) -> Rejected:
    return Rejected("invalid proposal", [FieldError(field, message)])


def _view(body: SimulateBody, outcome: Outcome) -> Simulation:
    components = sorted(outcome.by_component.items())
    return Simulation(
        start=body.start,
        end=body.end,
        currency=PRICE_CURRENCY,
        total=ComparedView(**_compared(outcome.total)),
        components=[ComponentView(component=name, **_compared(compared)) for name, compared in components],
        budgets=[_budget(one) for one in outcome.budgets.values()],
        checks=ChecksView.model_validate(outcome.checks, from_attributes=True),
        assumed=_sums(outcome.assumed),
        refusal_count=outcome.refusal_count,
        refusals=_refusals(outcome.refusals),
        differences=outcome.differences,
        warnings=outcome.warnings,
    )


def _compared(compared: Compared) -> dict[str, Any]:
    sums = {name: _sums(getattr(compared, name)) for name in ("actual", "simulated", "refused")}
    return {**sums, "saved": format_nanos(compared.saved_nanos)}


def _sums(sums: Sums) -> SumsView:
    return SumsView(
        requests=sums.requests,
        input_tokens=sums.input_tokens,
        output_tokens=sums.output_tokens,
        cost=format_nanos(sums.cost_nanos),
        unpriced_requests=sums.unpriced_requests,
        other_costs={currency: format_nanos(nanos) for currency, nanos in sorted(sums.other_costs.items())},
    )


def _budget(found: BudgetOutcome) -> SimulatedBudget:
    budget = found.budget
    return SimulatedBudget(
        budget_id=budget.budget_id,
        name=budget.spec.name,
        unit=budget.spec.unit.value,
        currency=budget.spec.currency,
        refused=found.refused,
        refused_cost=format_nanos(found.refused_nanos),
        first_refused_at=found.first_refused_at,
        peak=budget.write(found.peak_committed),
        peak_limit=budget.write(found.peak_limit),
        peak_percent=found.peak_percent,
        peak_at=found.peak_at,
        exhausted=[
            ExhaustedView(window_start=w.start, window_end=w.end, context_id=w.context_id or None, at=at)
            for w, at in found.exhausted
        ],
    )


def _refusals(refusals: Sequence[Refusal]) -> list[RefusalView]:
    return [RefusalView.model_validate(one, from_attributes=True) for one in refusals]


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/simulate",
        summary="The past again, under a proposal",
        handle=simulate,
        body=SimulateBody,
        read=partial(read_exact, SimulateBody),
        answers={200: Simulation},
        tags=("reading",),
        role=KeyRole.READ,
    ),
)
