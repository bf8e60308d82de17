"""POST /api/optimize: what would have saved money, and limits that would do better otherwise."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from budget_bus.errors import Rejected
from budget_bus.events.fields import Name, whole_number
from budget_bus.http.body import read_json
from budget_bus.http.pace import TooMany
from budget_bus.http.parts import Call
from budget_bus.http.query import Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.insight.optimising.cheaper import combined
from budget_bus.insight.optimising.optimise import Advice, Goal, Wish, optimise, share_percent
from budget_bus.insight.optimising.suggestion import Suggestion
from budget_bus.insight.replay import Proposal
from budget_bus.keys.key import KeyRole
from budget_bus.money import format_nanos
from budget_bus.policy.budget import LimitSpec, Policy, Unit
from budget_bus.policy.equivalents import parse_equivalents
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.providers.names import canonical_provider
from budget_bus.providers.prices import PriceBook


class OptimizeBody(BaseModel):
    """
    The `days` until now to go by. `goal` cost looks only for what makes calls cheaper, capacity only for limits.

    `also_consider` are groups of models, each as "provider/model", that may stand in for each other although they are
    not set as equivalents: a trade of quality that is yours to state. `deferrable` are task types that can wait for a
    batch.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    days: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=366)] = 30
    goal: Literal["cost", "capacity"] | None = None
    also_consider: list[list[str]] = []
    deferrable: Annotated[list[Name], Field(max_length=100)] = []

    @field_validator("also_consider")
    @classmethod
    def _groups(cls, raw: list[list[str]]) -> list[list[str]]:
        try:
            return parse_equivalents(raw, provider_name=canonical_provider)
        except Rejected as error:
            raise ValueError(error.errors[0].message) from None


class ApplyView(BaseModel):
    """One command, and the same as a request; all null where the change is the component's own to make."""

    command: str | None
    method: str | None
    path: str | None
    body: dict[str, Any] | None


class SuggestionView(BaseModel):
    """
    One change. `saving` is what the replay of the past as it was comes to, less what it comes to with the change, to
    the last digit; below zero it costs that much. `simulate` is the body with which POST /api/simulate shows it.
    `share_percent` is its part of `total_cost`. `assumption` is what has to be true for it.
    """

    kind: str
    title: str
    detail: str
    scope: dict[str, Any]
    saving: str
    share_percent: str
    assumption: str
    apply: ApplyView
    simulate: dict[str, Any]


class OptimizeView(BaseModel):
    """
    Suggestions, those that save most first. `total_saving` is what all that make calls cheaper would have saved
    together, by the replay of `simulate`, so what two of them would both save is in it once. `total_cost` is what the
    calls of `[window_start, window_end)` cost. `detail` says what could not be suggested, and why.
    """

    window_start: datetime
    window_end: datetime
    currency: str
    suggestions: list[SuggestionView]
    total_saving: str
    total_cost: str
    detail: str | None
    simulate: dict[str, Any] | None


async def optimize(call: Call[Query, OptimizeBody]) -> Answer:
    """
    Suggest what would save money, or let calls pass that were refused. Nothing is changed; one at a time is worked on.

    Raises:
        Rejected: the window has more calls than are replayed at once.
        TooMany: another one is being worked on.
    """
    parts, body = call.parts, call.body
    if parts.simulating.locked():
        error = TooMany("another replay is under way here; try again when it has ended")
        error.retry_after_s = 5
        raise error
    end = parts.now()
    start = end - timedelta(days=body.days)
    wish = Wish(Goal(body.goal) if body.goal else None, body.also_consider, body.deferrable)
    async with parts.simulating:
        policy = Policy(parts.settings.enforcement_level)
        advice = await optimise(parts.pool, PriceBook(), start=start, end=end, wish=wish, default_policy=policy)
    return Answer(_view(advice, start, end))


def _view(advice: Advice, start: datetime, end: datetime) -> OptimizeView:
    return OptimizeView(
        window_start=start,
        window_end=end,
        currency=PRICE_CURRENCY,
        suggestions=[_suggestion(one, advice.total_cost, start, end) for one in advice.suggestions],
        total_saving=format_nanos(advice.total_saving),
        total_cost=format_nanos(advice.total_cost),
        detail=" ".join(advice.notes) or None,
        simulate=_simulated(combined(advice.cheaper), start, end) if advice.cheaper else None,
    )


def _simulated(proposal: Proposal, start: datetime, end: datetime) -> dict[str, Any]:
    """*proposal* as POST /api/simulate takes it."""
    said: dict[str, list[dict[str, Any]]] = {
        "swaps": [{"scope": s.calls.to_json(), "provider": s.provider, "model": s.model} for s in proposal.swaps],
        "tiers": [{"scope": t.calls.to_json(), "service_tier": t.service_tier} for t in proposal.tiers],
        "caching": [
            {"scope": c.calls.to_json(), "read_percent": c.read_percent, "write_percent": c.write_percent}
            for c in proposal.caching
        ],
        "changes": [{"budget_id": str(key), **_changed(spec)} for key, spec in proposal.limits.items()],
    }
    span = {name: at.isoformat().replace("+00:00", "Z") for name, at in (("start", start), ("end", end))}
    return span | {name: values for name, values in said.items() if values}


def _changed(spec: LimitSpec) -> dict[str, Any]:
    if spec.percent is not None:
        return {"percent": f"{spec.percent.normalize():f}"}
    return {"limit": format_nanos(spec.limit) if spec.unit is Unit.COST else str(spec.limit)}


def _suggestion(one: Suggestion, total_cost: int, start: datetime, end: datetime) -> SuggestionView:
    apply = one.apply
    return SuggestionView(
        kind=one.kind.value,
        title=one.title,
        detail=one.detail,
        scope=one.scope.to_json(),
        saving=format_nanos(one.saving),
        share_percent=share_percent(one.saving, total_cost),
        assumption=one.assumption,
        apply=ApplyView(
            command=apply.command,
            method=apply.method,
            path=apply.path,
            body=None if apply.body is None else dict(apply.body),
        ),
        simulate=_simulated(one.proposal, start, end),
    )


def _read(raw: bytes) -> OptimizeBody:
    return read_json(OptimizeBody, raw or b"{}")


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/optimize",
        summary="What would save money",
        handle=optimize,
        body=OptimizeBody,
        read=_read,
        optional=True,
        answers={200: OptimizeView},
        role=KeyRole.READ,
        tags=("reading",),
    ),
)
