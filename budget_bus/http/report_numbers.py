"""The numbers of a report: sums with unit costs, savings and adjustments, in total, in groups and in steps of time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from budget_bus.http.usage import Numbers, grouped, numbers
from budget_bus.money import format_nanos
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.store.reports import BinnedSum, Contexts

_TOP = 10
_NONE = Contexts(0, 0)


class ReportNumbers(Numbers):
    """
    Sums and what they come to. `cache_savings` is what the `cache_read_input_tokens` would have cost more as plain
    input, at standard prices. Late events, which arrived after a window of theirs had closed, are in all sums;
    `restated_cost` is by how much corrected prices moved `cost` since the events were first booked. Unit costs leave
    out what is unpriced; null: there is nothing to divide by.
    """

    cache_read_input_tokens: int
    cache_savings: str
    late_requests: int
    late_cost: str
    restated_cost: str
    cost_per_request: str | None
    cost_per_1k_tokens: str | None


class ContextNumbers(ReportNumbers):
    """Numbers with the `contexts` that were at work, and what the calls of one cost on average."""

    contexts: int
    cost_per_context: str | None


class StepGroup(ReportNumbers):
    """Sums of one group in one step; a value is null where the events had none."""

    key: dict[str, str | None]


class ReportGroup(ContextNumbers):
    """Sums of one group; a value is null where the events had none."""

    key: dict[str, str | None]


class Step(ReportNumbers):
    """Sums of one step of time; `groups` are those of `group_by` that used anything in it."""

    start: datetime
    end: datetime
    groups: list[StepGroup]


class TopSpender(BaseModel):
    """One value of one dimension and its share of the cost; null where events had no value."""

    dimension: str
    value: str | None
    cost: str
    share_percent: str


def totals(sums: Sequence[BinnedSum], contexts: dict[tuple[str | None, ...], Contexts]) -> ContextNumbers:
    """All of *sums* together."""
    return ContextNumbers(**_numbers(sums).model_dump(), **_context_numbers(contexts.get((), _NONE)))


def groups(
    sums: Sequence[BinnedSum], group_by: Sequence[str], contexts: dict[tuple[str | None, ...], Contexts]
) -> list[ReportGroup]:
    """The sums of each group over the whole span."""
    return [
        ReportGroup(
            key=key,
            **_numbers(rows).model_dump(),
            **_context_numbers(contexts.get(tuple(key[name] for name in group_by), _NONE)),
        )
        for key, rows in grouped(sums, group_by)
    ]


def steps(sums: Sequence[BinnedSum], group_by: Sequence[str], edges: Sequence[datetime]) -> list[Step]:
    """The sums of each step between two of *edges*."""
    by_bin: dict[int, list[BinnedSum]] = defaultdict(list)
    for row in sums:
        by_bin[row.bin].append(row)
    return [
        Step(
            start=start,
            end=end,
            groups=[
                StepGroup(key=key, **_numbers(rows).model_dump()) for key, rows in grouped(by_bin[number], group_by)
            ],
            **_numbers(by_bin[number]).model_dump(),
        )
        for number, (start, end) in enumerate(pairwise(edges))
    ]


def top(sums: Sequence[BinnedSum], dimensions: Sequence[str]) -> Iterator[TopSpender]:
    """Those who spend most, by each of *dimensions*."""
    ours = _in_currency(sums)
    total = sum(row.cost_nanos for row in ours)
    for dimension in dimensions:
        costs: dict[str | None, int] = defaultdict(int)
        for row in ours:
            costs[row.key[dimension]] += row.cost_nanos
        ranked = sorted(costs.items(), key=lambda item: (-item[1], item[0] is None, item[0] or ""))
        for value, nanos in ranked[:_TOP]:
            share = f"{Decimal(nanos) / total * 100:.1f}" if total else "0.0"
            yield TopSpender(dimension=dimension, value=value, cost=format_nanos(nanos), share_percent=share)


def _numbers(sums: Iterable[BinnedSum]) -> ReportNumbers:
    rows = list(sums)
    # Money in another currency is in `other_costs`; no other figure of it is added to ours.
    ours = _in_currency(rows)
    cost = sum(row.cost_nanos for row in ours)
    priced = sum(row.requests - row.unpriced_requests for row in ours)
    tokens = sum(row.input_tokens + row.output_tokens - row.unpriced_tokens for row in ours)
    return ReportNumbers(
        **numbers(rows).model_dump(),
        cache_read_input_tokens=sum(row.cache_read_input_tokens for row in rows),
        cache_savings=format_nanos(sum(row.cache_savings_nanos for row in ours)),
        late_requests=sum(row.late_requests for row in rows),
        late_cost=format_nanos(sum(row.late_cost_nanos for row in ours)),
        restated_cost=format_nanos(sum(row.restated_nanos for row in ours)),
        cost_per_request=_each(cost, priced),
        cost_per_1k_tokens=_each(1000 * cost, tokens),
    )


def _context_numbers(contexts: Contexts) -> dict[str, Any]:
    return {"contexts": contexts.at_work, "cost_per_context": _each(contexts.cost_nanos, contexts.at_work)}


def _in_currency(sums: Iterable[BinnedSum]) -> list[BinnedSum]:
    return [row for row in sums if row.currency == PRICE_CURRENCY]


def _each(nanos: int, by: int) -> str | None:
    """A quotient to show, rounded once to the ninth decimal; it is booked nowhere."""
    if by <= 0:
        return None
    share = (Decimal(nanos) / by).to_integral_value(ROUND_HALF_EVEN)
    return format_nanos(int(share))
