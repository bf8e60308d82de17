"""GET /api/reports/summary: usage over time, in groups, with those who spend most and what budgets will come to."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from budget_bus.errors import FieldError, Rejected
from budget_bus.http.anomalies import Anomaly, found_between
from budget_bus.http.budgets import concerns
from budget_bus.http.outlook import ReportedBudget, reported
from budget_bus.http.parts import Call, Reading
from budget_bus.http.prices import price_book
from budget_bus.http.query import Moment, Names, ZoneName
from budget_bus.http.report_numbers import ContextNumbers, ReportGroup, Step, TopSpender, groups, steps, top, totals
from budget_bus.http.route import Answer, Endpoint
from budget_bus.http.usage import UsageFilters, group_names
from budget_bus.insight.report_formats import XLSX, render
from budget_bus.insight.usage_report import Asked, gather
from budget_bus.money import format_nanos
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.policy.windows import Period, window_of
from budget_bus.providers.names import canonical_provider
from budget_bus.store import limits, reports

MAX_BINS = 5_000
_DIMENSIONS = ("component", "provider", "model")


class SummaryQuery(UsageFilters):
    """
    Which usage; `tier` too can be grouped and filtered by. The `days` until `end`, which is now unless it is given, or
    `[start, end)`. `period` is how long the steps of the series are; those at the ends may be shorter.
    """

    period: Literal["hourly", "daily", "weekly", "monthly"] = "daily"
    days: Annotated[int, Field(ge=1, le=1100)] = 30
    format: Literal["json", "csv", "html", "xlsx"] = "json"
    tier: Names = Field(default_factory=list)
    start: Moment | None = None
    end: Moment | None = None
    timezone: ZoneName | None = None


class Unpriced(BaseModel):
    """Calls of models without a price: what they cost is not known, so it is in no sum."""

    requests: int
    total_tokens: int


class Summary(BaseModel):
    """
    Usage in `[window_start, window_end)` by the time it occurred. `totals` is the sum of `series` and, if something was
    grouped by, of `groups`. `unconfirmed` is what is charged now for calls of which nothing was heard.
    """

    window_start: datetime
    window_end: datetime
    currency: str
    totals: ContextNumbers
    groups: list[ReportGroup]
    series: list[Step]
    top: list[TopSpender]
    unpriced: Unpriced
    unconfirmed: str
    unconfirmed_holds: int
    budgets: list[ReportedBudget]
    anomalies: list[Anomaly]


async def summary(call: Call[SummaryQuery, None]) -> Answer:
    """
    Sum up a span of time, from the rollups.

    As CSV it is the groups, a row each, or the steps of time if nothing is grouped by; as HTML one page with charts
    that loads nothing; as XLSX a sheet for each part.

    Raises:
        Rejected: names the parameter that is wrong and what it may be.
    """
    query, now = call.query, call.parts.now()
    end = query.end or now
    start = query.start or end - timedelta(days=query.days)
    return await report(call.parts, query, start, end)


async def report(parts: Reading, query: SummaryQuery, start: datetime, end: datetime) -> Answer:
    """
    What *query* asks for, of `[start, end)`, in its format.

    Raises:
        Rejected: as `summary`.
    """
    group_by = group_names(query.group_by, reports.GROUPS)
    bins = _bins(Period(query.period), query.timezone or parts.settings.timezone, start, end)
    filters = {name: list(getattr(query, name)) for name in reports.GROUPS}
    filters["provider"] = [canonical_provider(name) for name in filters["provider"]]
    prices = await price_book(parts)
    found = await gather(parts.pool, Asked(start, end, bins, group_by, filters), prices)
    held = await reports.unconfirmed(parts.pool, filters)
    budgets = [budget for budget in await limits.list_limits(parts.pool) if concerns(budget, filters)]
    made = Summary(
        window_start=start,
        window_end=end,
        currency=PRICE_CURRENCY,
        totals=totals(found.sums, found.contexts),
        groups=groups(found.sums, group_by, found.contexts),
        series=steps(found.sums, group_by, [*bins, end]),
        top=[*top(found.sums, group_by or _DIMENSIONS)],
        unpriced=Unpriced(
            requests=sum(row.unpriced_requests for row in found.sums),
            total_tokens=sum(row.unpriced_tokens for row in found.sums),
        ),
        unconfirmed=format_nanos(held.get(PRICE_CURRENCY, (0, 0))[1]),
        unconfirmed_holds=sum(count for count, _ in held.values()),
        budgets=await reported(parts, budgets, parts.now()),
        anomalies=await found_between(parts, start, end, filters),
    )
    if query.format == "json":
        return Answer(made)
    # A page of several megabytes, or a workbook of many rows, would keep everybody else waiting.
    content, media_type = await asyncio.to_thread(render, query.format, made.model_dump(mode="json"), group_by)
    return Answer(content, media_type=media_type)


def _bins(period: Period, timezone: str, start: datetime, end: datetime) -> list[datetime]:
    if start >= end:
        message = f"the span {start.isoformat()} to {end.isoformat()} is empty; start must lie before end"
        raise Rejected("invalid query", [FieldError("start", message)])
    bins, after = [start], window_of(period, timezone, start).end
    while after is not None and after < end:
        bins.append(after)
        if len(bins) > MAX_BINS:
            message = f"makes more than {MAX_BINS:,} steps of this span; take a longer one"
            raise Rejected("invalid query", [FieldError("period", message)])
        after = window_of(period, timezone, after).end
    return bins


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/reports/summary",
        summary="Usage over time",
        handle=summary,
        query=SummaryQuery,
        answers={200: Summary},
        also_produces=("text/csv", "text/html", XLSX),
        tags=("reading",),
    ),
)
