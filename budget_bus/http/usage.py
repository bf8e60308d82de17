"""GET /api/usage/{period}: sums of the ledger over a window, in groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, TypeVar

from pydantic import BaseModel, Field

from budget_bus.errors import FieldError, Rejected
from budget_bus.http.budgets import BudgetView, concerns, views
from budget_bus.http.parts import Call
from budget_bus.http.query import Moment, Names, Query, ZoneName
from budget_bus.http.route import Answer, Endpoint
from budget_bus.money import format_nanos
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.policy.windows import Period, window_of
from budget_bus.providers.names import canonical_provider
from budget_bus.store import limits, reads
from budget_bus.store.reads import GROUPS, UsageSum

S = TypeVar("S", bound=UsageSum)

_PERIODS = (Period.HOURLY, Period.DAILY, Period.WEEKLY, Period.MONTHLY)


class UsageFilters(Query):
    """
    Which usage. `group_by` is any of component, provider, model, task_type, user and context_id, with commas between or
    given again; a filter given more than once means any of them.
    """

    group_by: Names = Field(default_factory=list)
    component: Names = Field(default_factory=list)
    provider: Names = Field(default_factory=list)
    model: Names = Field(default_factory=list)
    task_type: Names = Field(default_factory=list)
    user: Names = Field(default_factory=list)
    context_id: Names = Field(default_factory=list)


class UsageQuery(UsageFilters):
    """`start` and `end` replace the bounds of the current window."""

    start: Moment | None = None
    end: Moment | None = None
    timezone: ZoneName | None = None


class Numbers(BaseModel):
    """
    Sums. `cost` is in the currency of prices, which the report names, and leaves out what is unpriced, which
    `unpriced_requests` counts; costs in other currencies are beside it, never added to it.
    """

    requests: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost: str
    unpriced_requests: int
    other_costs: dict[str, str] = Field(default_factory=dict)


class Group(Numbers):
    """Sums of one group; a value is null where the events had none."""

    key: dict[str, str | None]


class UsageReport(BaseModel):
    """Usage in `[window_start, window_end)` by the time it occurred; `totals` is the sum of `groups`."""

    period: Literal["hourly", "daily", "weekly", "monthly"]
    window_start: datetime
    window_end: datetime
    currency: str
    totals: Numbers
    groups: list[Group]
    budgets: list[BudgetView]


async def usage(call: Call[UsageQuery, None]) -> Answer:
    """
    Sum up a window.

    Raises:
        Rejected: names the parameter that is wrong and what it may be.
    """
    parts, query = call.parts, call.query
    period, group_by = _period(call.path["period"]), group_names(query.group_by)
    start, end = _bounds(period, query, parts.now(), parts.settings.timezone)
    filters = {name: list(getattr(query, name)) for name in GROUPS}
    filters["provider"] = [canonical_provider(name) for name in filters["provider"]]
    sums = await reads.usage(parts.pool, start, end, group_by=group_by, filters=filters)
    budgets = [b for b in await limits.list_limits(parts.pool) if b.spec.period is period and concerns(b, filters)]
    report = UsageReport(
        period=period.value,  # type: ignore[arg-type]  # one of _PERIODS
        window_start=start,
        window_end=end,
        currency=PRICE_CURRENCY,
        totals=numbers(sums),
        groups=[Group(key=key, **numbers(rows).model_dump()) for key, rows in grouped(sums, group_by)],
        budgets=await views(parts, budgets),
    )
    return Answer(report)


def _period(name: str) -> Period:
    if name not in _PERIODS:
        raise Rejected("invalid path", [FieldError("period", f"{name!r} is not one of {', '.join(_PERIODS)}")])
    return Period(name)


def group_names(given: Sequence[str], known: Sequence[str] = GROUPS) -> list[str]:
    """What `group_by` names, in the order of *known*. Raises Rejected: one of them is none that can be grouped by."""
    names = [name.strip() for text in given for name in text.split(",")]
    for name in names:
        if name not in known:
            message = f"{name!r} is not one of {', '.join(known)}; separate several by commas"
            raise Rejected("invalid query", [FieldError("group_by", message)])
    return [name for name in known if name in names]


def _bounds(period: Period, query: UsageQuery, now: datetime, timezone: str) -> tuple[datetime, datetime]:
    window = window_of(period, query.timezone or timezone, now)
    start, end = query.start or window.start, query.end or window.end
    assert end is not None  # noqa: S101  # only `total` has no end, and it is not one of _PERIODS
    if start >= end:
        wrong = "end" if query.end else "start"
        message = f"the window {start.isoformat()} to {end.isoformat()} is empty; start must lie before end"
        raise Rejected("invalid query", [FieldError(wrong, message)])
    return start, end


def grouped(sums: Iterable[S], group_by: Sequence[str]) -> list[tuple[dict[str, str | None], list[S]]]:
    """The sums of each group by its key, in the keys' order with absent values last; nothing if *group_by* is empty."""
    if not group_by:
        return []
    by_key: dict[tuple[str | None, ...], list[S]] = defaultdict(list)
    for row in sums:
        by_key[tuple(row.key[name] for name in group_by)].append(row)
    ordered = sorted(by_key.items(), key=lambda item: [(value is None, value or "") for value in item[0]])
    return [(dict(zip(group_by, key, strict=True)), rows) for key, rows in ordered]


def numbers(sums: Iterable[UsageSum]) -> Numbers:
    """All of *sums* together."""
    rows = list(sums)
    costs: dict[str, int] = defaultdict(int, {PRICE_CURRENCY: 0})
    for row in rows:
        costs[row.currency] += row.cost_nanos
    input_tokens, output_tokens = sum(r.input_tokens for r in rows), sum(r.output_tokens for r in rows)
    return Numbers(
        requests=sum(r.requests for r in rows),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
        cost=format_nanos(costs.pop(PRICE_CURRENCY)),
        unpriced_requests=sum(r.unpriced_requests for r in rows),
        other_costs={code: format_nanos(nanos) for code, nanos in sorted(costs.items()) if nanos},
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/usage/{period}",
        summary="Usage in a window",
        handle=usage,
        query=UsageQuery,
        answers={200: UsageReport},
        tags=("reading",),
    ),
)
