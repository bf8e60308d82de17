"""/api/holds: what is set aside, giving it back and keeping it longer."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from budget_bus.errors import Conflict, FieldError, NotFound, Rejected
from budget_bus.events.fields import Instant, Name, whole_number, wrong_field
from budget_bus.http.body import read_json
from budget_bus.http.parts import Call
from budget_bus.http.query import Names, Page, Query, place, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.keys.key import KeyRole
from budget_bus.money import format_nanos
from budget_bus.providers.names import canonical_provider
from budget_bus.store import reads

_CLOSABLE = ("open", "unconfirmed")
_LONGEST = timedelta(days=1)  # as hold_ttl_s


class HoldQuery(Page):
    """Open holds, unless `state` says otherwise."""

    state: Literal["open", "unconfirmed"] = "open"
    component: Names = Field(default_factory=list)
    provider: Names = Field(default_factory=list)
    model: Names = Field(default_factory=list)


class HoldView(BaseModel):
    """One hold; `amount` is its estimated cost, null if the model is unpriced."""

    request_id: UUID
    state: str
    component: str
    provider: str
    model: str
    context_id: str | None
    amount: str | None
    currency: str
    tokens: int
    decided_at: datetime
    expires_at: datetime


class HoldList(BaseModel):
    """Holds, oldest first."""

    items: list[HoldView]
    next_cursor: str | None


class ReleaseBody(BaseModel):
    """Why the hold is given back, if anyone is to know."""

    model_config = ConfigDict(strict=True)

    reason: Name | None = None


class ExtendBody(BaseModel):
    """Until when, or for how long from now, the hold is kept; exactly one of the two."""

    model_config = ConfigDict(strict=True)

    expires_at: Instant | None = None
    ttl_s: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=86_400)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.expires_at is None) == (self.ttl_s is None):
            raise wrong_field("expires_at", "give exactly one of expires_at and ttl_s")
        return self


async def list_holds(call: Call[HoldQuery, None]) -> Answer:
    """Holds in a state."""
    query = call.query
    after = read_cursor(query.cursor, place) if query.cursor else None
    providers = [canonical_provider(name) for name in query.provider]
    filters = {"component": query.component, "provider": providers, "model": query.model}
    rows = await reads.holds(call.parts.pool, query.state, filters=filters, after=after, count=query.page_size + 1)
    shown = rows[: query.page_size]
    cursor = write_cursor(shown[-1]["decided_at"], shown[-1]["request_id"]) if len(rows) > len(shown) else None
    items = [_view(row) for row in shown]
    return Answer(HoldList(items=items, next_cursor=cursor))


async def release(call: Call[Query, ReleaseBody]) -> Answer:
    """
    Announce that the call was never made; the hold is given back once the decider has read it.

    Raises:
        NotFound: there is no such hold. Conflict: it is closed; the detail says its state.
        Forbidden: the key is bound to other components than the hold's.
    """
    hold = await _held(call)
    bus = call.parts.bus
    await bus.release_hold(
        hold["request_id"], component=hold["component"], reason=call.body.reason, actor=_operator(call)
    )
    return Answer(_view(hold), 202)


async def extend(call: Call[Query, ExtendBody]) -> Answer:
    """
    Announce that the call takes longer; the answer shows the end that the hold will have once the decider has read it.

    Raises:
        NotFound: there is no such hold. Conflict: it is closed; the detail says its state.
        Forbidden: the key is bound to other components than the hold's.
        Rejected: the end is earlier than it is already, or more than a day ahead.
    """
    hold = await _held(call, states=("open",))
    now, field = call.parts.now(), "ttl_s" if call.body.expires_at is None else "expires_at"
    expires_at = call.body.expires_at or now + timedelta(seconds=call.body.ttl_s or 0)
    if expires_at > now + _LONGEST:
        raise Rejected("invalid input", [FieldError(field, "is more than 86,400 s ahead")])
    if expires_at < hold["expires_at"]:
        raise Rejected("invalid input", [FieldError(field, f"is before the hold's end, {hold['expires_at']:%FT%TZ}")])
    await call.parts.bus.extend_hold(
        hold["request_id"], component=hold["component"], expires_at=expires_at, actor=_operator(call)
    )
    return Answer(_view({**hold, "expires_at": expires_at}), 202)


async def _held(call: Call[Query, Any], *, states: tuple[str, ...] = _CLOSABLE) -> dict[str, Any]:
    text = call.path["request_id"]
    try:
        request_id = UUID(text)
    except ValueError:
        raise NotFound(f"no hold {text!r}; a request_id is a UUID, as GET /api/holds lists it") from None
    hold = await reads.hold(call.parts.pool, request_id)
    call.principal.must_act_for([hold["component"]])
    if hold["state"] not in states:
        raise Conflict(f"hold {request_id} is {hold['state']}")
    return hold


def _operator(call: Call[Query, Any]) -> str | None:
    """Who is audited: with a key that may change everything it is an operator; else the call's own end or wish."""
    return call.actor if KeyRole.ADMIN in call.principal.roles else None


def _view(row: dict[str, Any]) -> HoldView:
    return HoldView(amount=None if row["cost_nanos"] is None else format_nanos(row["cost_nanos"]), **row)


def _read_release(raw: bytes) -> ReleaseBody:
    return read_json(ReleaseBody, raw or b"{}")


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/holds",
        summary="Open holds",
        handle=list_holds,
        query=HoldQuery,
        answers={200: HoldList},
        tags=("reading",),
    ),
    Endpoint(
        method="POST",
        path="/api/holds/{request_id}/release",
        summary="Give a hold back",
        handle=release,
        body=ReleaseBody,
        read=_read_release,
        optional=True,
        answers={202: HoldView},
        tags=("calls",),
        role=KeyRole.CHECK,
    ),
    Endpoint(
        method="POST",
        path="/api/holds/{request_id}/extend",
        summary="Keep a hold longer",
        handle=extend,
        body=ExtendBody,
        answers={202: HoldView},
        tags=("calls",),
        role=KeyRole.CHECK,
    ),
)
