"""/api/providers/prices/update and /reviews: newer price data, and what of it waits for somebody's decision."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from budget_bus.bookkeeping import price_updates
from budget_bus.errors import BudgetUnavailable
from budget_bus.events.fields import Name
from budget_bus.http.limit_body import read_exact
from budget_bus.http.parts import Call
from budget_bus.http.prices import PATH, price_book
from budget_bus.http.query import Page, Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.providers import data
from budget_bus.store import price_data


class UpdateBody(BaseModel):
    """Nothing to say: what is updated is all that the settings name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    all: Literal[True] = True


class ReviewView(BaseModel):
    """
    A model of the price data whose fetched price is not in force, and why. `before` and `after` are the model as the
    data writes it, in USD per million tokens; null: it vanished.
    """

    provider: str
    model: str
    reason: str
    before: dict[str, Any]
    after: dict[str, Any] | None
    state: Literal["waiting", "approved", "rejected"]
    found_at: datetime
    decided_at: datetime | None = None
    decided_by: str | None = None


class ReviewList(BaseModel):
    """What waits for a decision."""

    items: list[ReviewView]
    next_cursor: str | None


class UpdateView(BaseModel):
    """
    What an update came to. `updated` false says that nothing could be fetched and why: the last good data stays.
    `changed` are the models whose prices are others now, `waiting` those that keep their price until it is decided.
    """

    updated: bool
    detail: str
    source: str
    models: int
    changed: list[str]
    waiting: list[ReviewView]


class DecisionBody(BaseModel):
    """Whether to take over what was fetched of a model; `provider` and `model` are those of the review."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    provider: Name
    model: Name
    approve: bool


async def update_prices(call: Call[Query, UpdateBody]) -> Answer:
    """
    Fetch newer price data and take over what is plausible. Offline is no error: the answer says so.

    Raises:
        Rejected: what was fetched is no price data; nothing is changed.
    """
    parts, settings = call.parts, call.parts.settings
    url = settings.price_update_url
    detail, changed, updated = "the price data is up to date", [], True
    try:
        raw = await price_updates.fetch(url)
        told = await price_updates.apply(
            parts.pool, raw, source=url, actor=call.actor, factor=settings.price_move_factor, now=parts.now()
        )
        changed = ["/".join(one.key) for one in told.taken]
        if changed or told.held:
            detail = f"{len(changed)} prices changed, {len(told.held)} wait for approval"
    except BudgetUnavailable as error:
        updated, detail = False, f"offline, the last good prices stay: {error}"
    await price_book(parts)
    waiting = [ReviewView.model_validate(one._asdict()) for one in await price_data.reviews(parts.pool)]
    count = sum(len(provider.models) for provider in data.providers().values())
    return Answer(
        UpdateView(updated=updated, detail=detail, source=data.source(), models=count, changed=changed, waiting=waiting)
    )


async def list_reviews(call: Call[Page, None]) -> Answer:
    """What waits for a decision, on one page."""
    found = await price_data.reviews(call.parts.pool)
    return Answer(ReviewList(items=[ReviewView.model_validate(one._asdict()) for one in found], next_cursor=None))


async def decide_review(call: Call[Query, DecisionBody]) -> Answer:
    """
    Take over or refuse what was fetched of a model.

    Raises:
        NotFound: nothing of it waits.
    """
    body = call.body
    review = await price_updates.decide(
        call.parts.pool, body.provider, body.model, approve=body.approve, actor=call.actor, now=call.parts.now()
    )
    return Answer(ReviewView.model_validate(review._asdict()))


_TAGS = ("administering",)
ENDPOINTS = (
    Endpoint(
        method="POST",
        path=f"{PATH}/update",
        summary="Update the price data",
        handle=update_prices,
        body=UpdateBody,
        read=lambda raw: read_exact(UpdateBody, raw or b"{}"),
        optional=True,
        answers={200: UpdateView},
        tags=_TAGS,
    ),
    Endpoint(
        method="GET",
        path=f"{PATH}/reviews",
        summary="Fetched prices that wait for approval",
        handle=list_reviews,
        query=Page,
        answers={200: ReviewList},
        tags=("reading",),
    ),
    Endpoint(
        method="POST",
        path=f"{PATH}/reviews",
        summary="Approve or reject a fetched price",
        handle=decide_review,
        body=DecisionBody,
        answers={200: ReviewView},
        tags=_TAGS,
    ),
)
