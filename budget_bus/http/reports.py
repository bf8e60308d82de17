"""GET /api/reports/summary: usage over time, in groups, with those who spend most and what budgets will come to."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from budget_bus.errors import FieldError, Rejected
from budget_bus.http.budgets import concerns
from budget_bus.http.outlook import ReportedBudget, reported
from budget_bus.http.parts import Call
from budget_bus.http.query import Moment, ZoneName
from budget_bus.http.route import Answer, Endpoint
from budget_bus.http.usage import Group, Numbers, UsageFilters, group_names, grouped, numbers
from budget_bus.money import format_nanos
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.policy.windows import Period, window_of
from budget_bus.providers.names import canonical_provider
from budget_bus.store import limits, reports
from budget_bus.store.reads import GROUPS
from budget_bus.store.reports import BinnedSum

MAX_BINS = 5_000
_TOP = 10
_DIMENSIONS = ("component", "provider", "model")


class SummaryQuery(UsageFilters):
    """
    The `days` until `end`, which is now unless it is given, or `[start, end)`. `period` is how long the steps of the
    series are; those at the ends may be shorter.
    """

    period: Literal["hourly", "daily", "weekly", "monthly"] = "daily"
    days: Annotated[int, Field(ge=1, le=1100)] = 30
    format: Literal["json", "csv"] = "json"
    start: Moment | None = None
    end: Moment | None = None
    timezone: ZoneName | None = None


class Step(Numbers):
    """Sums of one step of time; `groups` are those of `group_by` that used anything in it."""

    start: datetime
    end: datetime
    groups: list[Group]


class TopSpender(BaseModel):
    """One value of one dimension and its share of the cost; null where events had no value."""

    dimension: str
    value: str | None
    cost: str
    share_percent: str


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
    totals: Numbers
    groups: list[Group]
    series: list[Step]
    top: list[TopSpender]
    unpriced: Unpriced
    unconfirmed: str
    unconfirmed_holds: int
    budgets: list[ReportedBudget]


async def summary(call: Call[SummaryQuery, None]) -> Answer:
    """
    Sum up a span of time, from the rollups.

    As CSV it is the groups, a row each, or the steps of time if nothing is grouped by.

    Raises:
        Rejected: names the parameter that is wrong and what it may be.
    """
    parts, query = call.parts, call.query
    group_by = group_names(query.group_by)
    now = parts.now()
    end = query.end or now
    start = query.start or end - timedelta(days=query.days)
    bins = _bins(Period(query.period), query.timezone or parts.settings.timezone, start, end)
    filters = {name: list(getattr(query, name)) for name in GROUPS}
    filters["provider"] = [canonical_provider(name) for name in filters["provider"]]
    sums = await reports.series(parts.pool, start, end, bins=bins, group_by=group_by, filters=filters)
    if query.format == "csv":
        text = _csv(sums, group_by, [*bins, end])
        return Answer(text.encode(), media_type="text/csv; charset=utf-8")
    held = await reports.unconfirmed(parts.pool, filters)
    budgets = [budget for budget in await limits.list_limits(parts.pool) if concerns(budget, filters)]
    return Answer(
        Summary(
            window_start=start,
            window_end=end,
            currency=PRICE_CURRENCY,
            totals=numbers(sums),
            groups=[Group(key=key, **numbers(rows).model_dump()) for key, rows in grouped(sums, group_by)],
            series=_steps(sums, group_by, [*bins, end]),
            top=[*_top(sums, group_by or _DIMENSIONS)],
            unpriced=Unpriced(
                requests=sum(row.unpriced_requests for row in sums),
                total_tokens=sum(row.unpriced_tokens for row in sums),
            ),
            unconfirmed=format_nanos(held.get(PRICE_CURRENCY, (0, 0))[1]),
            unconfirmed_holds=sum(count for count, _ in held.values()),
            budgets=await reported(parts, budgets, now),
        )
    )


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


def _steps(sums: Sequence[BinnedSum], group_by: Sequence[str], edges: Sequence[datetime]) -> list[Step]:
    by_bin: dict[int, list[BinnedSum]] = defaultdict(list)
    for row in sums:
        by_bin[row.bin].append(row)
    return [
        Step(
            start=start,
            end=end,
            groups=[Group(key=key, **numbers(rows).model_dump()) for key, rows in grouped(by_bin[n], group_by)],
            **numbers(by_bin[n]).model_dump(),
        )
        for n, (start, end) in enumerate(pairwise(edges))
    ]


def _top(sums: Sequence[BinnedSum], dimensions: Sequence[str]) -> Iterator[TopSpender]:
    ours = [row for row in sums if row.currency == PRICE_CURRENCY]
    total = sum(row.cost_nanos for row in ours)
    for dimension in dimensions:
        costs: dict[str | None, int] = defaultdict(int)
        for row in ours:
            costs[row.key[dimension]] += row.cost_nanos
        ranked = sorted(costs.items(), key=lambda item: (-item[1], item[0] is None, item[0] or ""))
        for value, nanos in ranked[:_TOP]:
            share = f"{Decimal(nanos) / total * 100:.1f}" if total else "0.0"
            yield TopSpender(dimension=dimension, value=value, cost=format_nanos(nanos), share_percent=share)


def _csv(sums: Sequence[BinnedSum], group_by: Sequence[str], edges: Sequence[datetime]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [name for name in Numbers.model_fields if name != "other_costs"]
    if group_by:
        writer.writerow([*group_by, *names, "currency"])
        for key, rows in grouped(sums, group_by):
            writer.writerow([*(spreadsheet_text(key[name]) for name in group_by), *_cells(rows, names)])
    else:
        writer.writerow(["start", "end", *names, "currency"])
        for step in _steps(sums, (), edges):
            told = [getattr(step, name) for name in names]
            writer.writerow([step.start.isoformat(), step.end.isoformat(), *told, PRICE_CURRENCY])
    return out.getvalue()


def _cells(rows: Iterable[BinnedSum], names: Sequence[str]) -> list[Any]:
    told = numbers(rows)
    return [*(getattr(told, name) for name in names), PRICE_CURRENCY]


def spreadsheet_text(value: str | None) -> str:
    """A name that a spreadsheet would run as a formula is marked as text."""
    return f"'{value}" if value and value[0] in "=+-@\t\r" else value or ""


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/reports/summary",
        summary="Usage over time",
        handle=summary,
        query=SummaryQuery,
        answers={200: Summary},
        also_produces=("text/csv",),
        tags=("reading",),
    ),
)
