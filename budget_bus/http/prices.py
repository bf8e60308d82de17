"""/api/providers/prices: what models cost, and what an operator has set."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from budget_bus.bookkeeping import price_updates
from budget_bus.consumers.prices import refresh_prices
from budget_bus.errors import BudgetUnavailable, FieldError, Rejected
from budget_bus.events.fields import Instant, Name, ServiceTier, wrong_field
from budget_bus.http.limit_body import LimitAmount, Whole, read_exact
from budget_bus.http.parts import Call, Parts
from budget_bus.http.query import Moment, Page, Query, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.policy.pricing import Price, Rate
from budget_bus.providers import data
from budget_bus.providers.names import canonical_provider
from budget_bus.providers.own import RATES
from budget_bus.providers.prices import PriceBook, quarter_of
from budget_bus.store import price_data, prices

Per = Literal["1M", "1K"]
Amount = Annotated[LimitAmount, Field(ge=0)]

_TOKENS: dict[Per, int] = {"1M": 10**6, "1K": 10**3}
_PICOS = 10**12
_MAX_PICOS = 10**15  # 1,000 of a currency per token: far above any price, far below what overflows


class Rates(BaseModel):
    """
    Amounts of the currency, as strings or numbers: `per_request` for a call, all others for `per` tokens of a class.
    A class that is left out is charged as what includes it: what is written to a cache for an hour as `cache_creation`,
    cached, spoken and drawn input as `input`, and reasoning, spoken and drawn output as `output`.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    input: Amount | None = None
    output: Amount | None = None
    cache_read: Amount | None = None
    cache_creation: Amount | None = None
    reasoning_output: Amount | None = None
    input_audio: Amount | None = None
    output_audio: Amount | None = None
    cache_creation_1h: Amount | None = None
    input_image: Amount | None = None
    output_image: Amount | None = None


class Above(Rates):
    """What holds instead for all tokens of a call with more than so many input tokens."""

    above_input_tokens: Annotated[int, Whole, Field(ge=1, le=10**9)]


class PriceBody(Rates):
    """
    A price to set: of a model and its dated names, from `effective_from` on (a quarter of an hour; now, if it is left
    out). Zero everywhere is free. In USD; other currencies are not there yet.
    """

    provider: Name
    model: Name
    service_tier: ServiceTier = "standard"
    per_request: Amount | None = None
    tiers: Annotated[list[Above], Field(max_length=10)] = []
    per: Per = "1M"
    currency: Literal["USD"] = "USD"
    effective_from: Instant | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name in ("input", "output"):
            if getattr(self, name) is None:
                raise wrong_field(name, "is required; write 0 if it costs nothing")
        if self.effective_from is not None and self.effective_from != quarter_of(self.effective_from):
            raise wrong_field("effective_from", "must be a quarter of an hour, such as 2026-01-31T12:15:00Z")
        above = [tier.above_input_tokens for tier in self.tiers]
        if above != sorted(set(above)):
            raise wrong_field("tiers", "must have different above_input_tokens, in ascending order")
        for tier in self.tiers:
            for name in RATES:
                if getattr(tier, name) is not None and getattr(self, name) is None:
                    raise wrong_field("tiers", f"has {name}, which the price itself does not have")
        return self


class PriceView(BaseModel):
    """
    The price of one model at one instant: decimal strings for `per` tokens of each class, null where the class that
    includes it is charged. `own` says that an operator has set it, `effective_from` since when that holds.
    """

    provider: str
    model: str
    service_tier: str
    input: str
    output: str
    cache_read: str | None = None
    cache_creation: str | None = None
    reasoning_output: str | None = None
    input_audio: str | None = None
    output_audio: str | None = None
    cache_creation_1h: str | None = None
    input_image: str | None = None
    output_image: str | None = None
    per_request: str | None = None
    tiers: list[dict[str, Any]] = []
    per: Per = "1M"
    currency: str
    price_status: str
    source: str
    own: bool
    effective_from: datetime | None = None


class PriceList(BaseModel):
    """Prices, by provider."""

    items: list[PriceView]
    next_cursor: str | None


class PriceSet(BaseModel):
    """A price that was set, and what was charged at that instant until then; null: it was unpriced."""

    price: PriceView
    before: PriceView | None
    changed: bool


class PriceQuery(Page):
    """Which prices, and when; `per` is what they are written for."""

    provider: Name | None = None
    model: Name | None = None
    service_tier: ServiceTier = "standard"
    at: Moment | None = None
    own: bool = False
    per: Per = "1M"


class OwnQuery(Query):
    """What to take back: one tier, one date, or all that was set for a model."""

    provider: Name
    model: Name
    service_tier: ServiceTier | None = None
    effective_from: Moment | None = None


async def list_prices(call: Call[PriceQuery, None]) -> Answer:
    """All prices at an instant; with `own` all that operators have set, whenever they hold."""
    query = call.query
    book = await price_book(call.parts)
    if query.own:
        views = [
            _view(one.provider, one.model, one.service_tier, one.price, query.per, since=one.effective_from)
            for one in book.own.all
            if query.provider is None or one.provider == canonical_provider(query.provider)
            if query.model is None or one.model.lower() == query.model.lower()
        ]
        views.sort(key=lambda view: (view.provider, view.model, view.service_tier, view.effective_from))
    else:
        at = query.at or call.parts.now()
        views = []
        for listed in book.list_prices(query.provider, query.model, at=at):
            price = listed.price
            if query.service_tier != "standard":
                price = book.price(listed.provider, listed.model, at, query.service_tier) or price
            own = book.own.find(listed.provider, listed.model, at, query.service_tier)
            since = own.effective_from if own else None
            views.append(_view(listed.provider, listed.model, query.service_tier, price, query.per, since=since))
    start = read_cursor(query.cursor, int) if query.cursor else 0
    shown = views[start : start + query.page_size]
    rest = start + len(shown) < len(views)
    return Answer(PriceList(items=shown, next_cursor=write_cursor(start + len(shown)) if rest else None))


async def set_price(call: Call[Query, PriceBody]) -> Answer:
    """
    Set what a model costs from an instant on; in force from the next batch on, in every process.

    Raises:
        Rejected: names the field and the fix.
    """
    body, parts = call.body, call.parts
    provider = canonical_provider(body.provider)
    since = body.effective_from or quarter_of(parts.now())
    rates = stored_rates(body)
    was = (await price_book(parts)).price(provider, body.model, since, body.service_tier)
    changed = await prices.set_price(
        parts.pool, provider, body.model, rates, service_tier=body.service_tier, currency=body.currency,
        effective_from=since, actor=call.actor,
    )  # fmt: skip
    now = (await price_book(parts)).own.find(provider, body.model, since, body.service_tier)
    assert now is not None  # noqa: S101  # it was just set
    told = PriceSet(
        price=_view(provider, body.model, body.service_tier, now.price, body.per, since=now.effective_from),
        before=_view(provider, body.model, body.service_tier, was, body.per) if was else None,
        changed=changed,
    )
    return Answer(told)


async def remove_price(call: Call[OwnQuery, None]) -> Answer:
    """
    Take back what was set, so that the price data holds again.

    Raises:
        NotFound: nothing was set there.
    """
    query = call.query
    await prices.remove_prices(
        call.parts.pool, canonical_provider(query.provider), query.model, actor=call.actor,
        service_tier=query.service_tier, effective_from=query.effective_from,
    )  # fmt: skip
    return Answer(status=204)


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


async def price_book(parts: Parts) -> PriceBook:
    """The book with what operators have set, and the data in force."""
    async with parts.pool.acquire() as connection, connection.transaction():
        await refresh_prices(connection, parts.prices)
    return parts.prices


def stored_rates(body: PriceBody) -> dict[str, Any]:
    """The body's rates as they are kept, in picos."""
    rates: dict[str, Any] = {}
    for name in Rates.model_fields:
        amount = getattr(body, name)
        if amount is not None:
            above = [(t.above_input_tokens, getattr(t, name)) for t in body.tiers if getattr(t, name) is not None]
            tiers = [[more_than, _picos(f"tiers.{name}", value, _TOKENS[body.per])] for more_than, value in above]
            rates[name] = [_picos(name, amount, _TOKENS[body.per]), tiers]
    if body.per_request is not None:
        rates["per_request"] = _picos("per_request", body.per_request, 1)
    return rates


def _picos(field: str, amount: Decimal, per: int) -> int:
    exact = amount * _PICOS / per
    if exact != int(exact):
        message = "is finer than 0.000001 per million tokens" if per > 1 else "has more than 12 decimals"
        raise Rejected("invalid input", [FieldError(field, message)])
    if exact > _MAX_PICOS:
        raise Rejected("invalid input", [FieldError(field, "is more than 1,000 per token; mind `per`")])
    return int(exact)


def _view(provider: str, model: str, tier: str, price: Price, per: Per, *, since: datetime | None = None) -> PriceView:
    said: dict[str, Any] = {name: _written(getattr(price, name), per) for name in RATES}
    fee = price.per_request_picos
    return PriceView(
        provider=provider,
        model=model,
        service_tier=tier,
        **said,
        per_request=_plain(Decimal(fee) / _PICOS) if fee else None,
        tiers=_tiers(price, per),
        per=per,
        currency=price.currency,
        price_status=price.status.value,
        source=price.source,
        own=since is not None,
        effective_from=since,
    )


def _tiers(price: Price, per: Per) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for name in RATES:
        rate: Rate | None = getattr(price, name)
        for more_than, picos in rate.tiers if rate else ():
            found.setdefault(more_than, {})[name] = _amount(picos, per)
    return [{"above_input_tokens": more_than, **found[more_than]} for more_than in sorted(found)]


def _written(rate: Rate | None, per: Per) -> str | None:
    return None if rate is None else _amount(rate.base, per)


def _amount(picos: int, per: Per) -> str:
    return _plain(Decimal(picos) * _TOKENS[per] / _PICOS)


def _plain(amount: Decimal) -> str:
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


_TAGS = ("administering",)
_PATH = "/api/providers/prices"
ENDPOINTS = (
    Endpoint(
        method="GET",
        path=_PATH,
        summary="Prices",
        handle=list_prices,
        query=PriceQuery,
        answers={200: PriceList},
        tags=("reading",),
    ),
    Endpoint(
        method="PUT",
        path=_PATH,
        summary="Set a price",
        handle=set_price,
        body=PriceBody,
        read=lambda raw: read_exact(PriceBody, raw),
        answers={200: PriceSet},
        tags=_TAGS,
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/update",
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
        path=f"{_PATH}/reviews",
        summary="Fetched prices that wait for approval",
        handle=list_reviews,
        query=Page,
        answers={200: ReviewList},
        tags=("reading",),
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/reviews",
        summary="Approve or reject a fetched price",
        handle=decide_review,
        body=DecisionBody,
        answers={200: ReviewView},
        tags=_TAGS,
    ),
    Endpoint(
        method="DELETE",
        path=_PATH,
        summary="Take back a price that was set",
        handle=remove_price,
        query=OwnQuery,
        answers={204: None},
        tags=_TAGS,
    ),
)
