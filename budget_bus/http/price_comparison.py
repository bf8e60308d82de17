"""POST /api/providers/prices/compare: our prices beside a second table, where they disagree."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, Field

from budget_bus.errors import ConfigError, FieldError, Rejected
from budget_bus.http.parts import Call
from budget_bus.http.prices import price_book
from budget_bus.http.query import Names, Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.providers.comparison import Compared, compare, share_of, told_once
from budget_bus.providers.names import canonical_provider
from budget_bus.providers.second_table import SecondPrice, read_second_table


class ComparisonQuery(Query):
    """Which of the prices are compared: all, or those of some providers or models."""

    provider: Names = Field(default_factory=list)
    model: Names = Field(default_factory=list)


class DisagreementView(BaseModel):
    """
    A token class of a model of which both have a price, and another one: decimal strings per million tokens. `regional`
    and a `same_name` that is false say that the two may mean different things; `ends` is when the model is withdrawn.
    """

    provider: str
    model: str
    token_class: str
    ours: str
    theirs: str
    same_name: bool
    regional: bool
    ends: str | None


class ComparisonView(BaseModel):
    """How many figures both tables have, how many of them agree within 1 %, and all others."""

    compared: int
    agree: int
    disagreements: list[DisagreementView]


async def compare_prices(call: Call[ComparisonQuery, Any]) -> Answer:
    """
    Compare today's prices, those that were set among them, with litellm's table; nothing is changed.

    Raises:
        Rejected: the body is no such table.
    """
    query, now = call.query, call.parts.now()
    book = await price_book(call.parts)
    providers = {canonical_provider(name) for name in query.provider}
    try:
        rows = await asyncio.to_thread(read_second_table, call.body)
    except ConfigError as bad:
        raise Rejected("invalid table", [FieldError("table", str(bad))]) from None

    def wanted(row: SecondPrice) -> bool:
        return (not providers or row.provider in providers) and (not query.model or row.model in query.model)

    def judge() -> list[Compared]:
        return told_once(compare(filter(wanted, rows), book.price, now))

    found = await asyncio.to_thread(judge)
    share = share_of(found)
    others = [_view(one) for one in found if not one.agrees]
    return Answer(ComparisonView(compared=share.compared, agree=share.agree, disagreements=others))


def _view(one: Compared) -> DisagreementView:
    return DisagreementView(
        provider=one.provider,
        model=one.model,
        token_class=one.token_class,
        ours=_per_million(one.ours),
        theirs=_per_million(one.theirs),
        same_name=one.same_name,
        regional=one.regional,
        ends=None if one.ends is None else one.ends.isoformat(),
    )


def _per_million(picos: int) -> str:
    whole, part = divmod(picos, 10**6)
    return f"{whole}.{part:06d}".rstrip("0").rstrip(".")


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/providers/prices/compare",
        summary="Where a second table of prices disagrees",
        handle=compare_prices,
        query=ComparisonQuery,
        body=bytes,
        read=bytes,
        answers={200: ComparisonView},
        tags=("reading",),
    ),
)
