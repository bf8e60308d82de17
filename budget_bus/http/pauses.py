"""/api/pauses: scopes that may make no calls for a time, why, and letting them go on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, model_validator

from budget_bus.errors import NotFound
from budget_bus.events.fields import Instant, Name, wrong_field
from budget_bus.http.limit_body import Seconds
from budget_bus.http.parts import Call
from budget_bus.http.query import Page, Query, place, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.policy.scope import parse_scope
from budget_bus.providers.names import canonical_provider
from budget_bus.store import pauses
from budget_bus.store.pauses import Kept


class PauseBody(BaseModel):
    """
    What to pause, why, and until when or for how long; without either until it is resumed. The scope is as a limit's;
    `{}` is everything.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    scope: dict[str, Any]
    reason: Name
    until: Instant | None = None
    ttl_s: Seconds | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.until is not None and self.ttl_s is not None:
            raise wrong_field("until", "give until or ttl_s, not both")
        return self


class PauseQuery(Page):
    """Pauses that hold now (`active=true`), that do not any more, or without it all."""

    active: bool | None = None


class ResumeQuery(Query):
    """Why the scope may go on."""

    reason: Name | None = None


class PauseView(BaseModel):
    """
    A pause. It ends by itself at `until`, if that is not null; `ended_at` and `ended_by` say when and by whom it was
    ended (`ended_by` null: by itself).
    """

    pause_id: UUID
    scope: dict[str, Any]
    reason: str
    actor: str
    since: datetime
    until: datetime | None
    active: bool
    ended_at: datetime | None
    ended_by: str | None
    end_reason: str | None


class PauseList(BaseModel):
    """Pauses, newest first."""

    items: list[PauseView]
    next_cursor: str | None


async def list_pauses(call: Call[PauseQuery, None]) -> Answer:
    """Pauses, and how they ended."""
    query, now = call.query, call.parts.now()
    before = read_cursor(query.cursor, place) if query.cursor else None
    found = await pauses.page(call.parts.pool, active=query.active, now=now, before=before, count=query.page_size + 1)
    shown = found[: query.page_size]
    last = shown[-1].pause if len(found) > len(shown) else None
    cursor = write_cursor(last.since, last.pause_id) if last else None
    return Answer(PauseList(items=[_view(one, now) for one in shown], next_cursor=cursor))


async def pause(call: Call[Query, PauseBody]) -> Answer:
    """
    Deny every check of a scope from the next decision on (201). What is paused already gets this reason and end (200).

    Usage is still recorded, holds and leases that were given run out, and a repeated `request_id` keeps its answer.

    Raises:
        Rejected: names what is wrong with the scope, or an end that is past.
    """
    body, now = call.body, call.parts.now()
    scope = parse_scope(body.scope, provider_name=canonical_provider)
    until = body.until if body.ttl_s is None else now + timedelta(seconds=body.ttl_s)
    kept, created = await pauses.pause(
        call.parts.pool, scope, reason=body.reason, actor=call.actor, until=until, now=now
    )
    return Answer(_view(kept, now), 201 if created else 200)


async def resume(call: Call[ResumeQuery, None]) -> Answer:
    """
    End a pause now. One that has ended stays as it ended, so that doing it again changes nothing.

    Raises:
        NotFound: there was never such a pause.
    """
    text, now = call.path["pause_id"], call.parts.now()
    try:
        pause_id = UUID(text)
    except ValueError:
        raise NotFound(f"no pause {text!r}; a pause_id is a UUID, as GET /api/pauses lists it") from None
    kept = await pauses.resume(call.parts.pool, pause_id, reason=call.query.reason, actor=call.actor, now=now)
    return Answer(_view(kept, now))


def _view(kept: Kept, now: datetime) -> PauseView:
    told = kept.describe()
    if kept.ended_at is None and not kept.holds(now):
        told["ended_at"] = kept.pause.until
    return PauseView.model_validate({**told, "active": kept.holds(now)})


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/pauses",
        summary="Pauses",
        handle=list_pauses,
        query=PauseQuery,
        answers={200: PauseList},
        tags=("reading",),
    ),
    Endpoint(
        method="POST",
        path="/api/pauses",
        summary="Pause a scope",
        handle=pause,
        body=PauseBody,
        answers={200: PauseView, 201: PauseView},
        tags=("administering",),
    ),
    Endpoint(
        method="DELETE",
        path="/api/pauses/{pause_id}",
        summary="Resume what is paused",
        handle=resume,
        query=ResumeQuery,
        answers={200: PauseView},
        tags=("administering",),
    ),
)
