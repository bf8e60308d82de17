"""/api/reconciliation: the books beside the providers' own exports."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, Field

from budget_bus.bookkeeping import reconciling
from budget_bus.bookkeeping.reconciling import Drift
from budget_bus.errors import FieldError, Rejected
from budget_bus.http.parts import Call
from budget_bus.http.query import Names, Page, Query, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.money import format_nanos
from budget_bus.providers.names import canonical_provider

_DAYS = 31


Day = Annotated[date, Field(ge=date(2000, 1, 1), lt=date(3000, 1, 1))]


class ReconciliationQuery(Page):
    """UTC days of `[start, end)`: without them the last 31, today among them."""

    start: Day | None = None
    end: Day | None = None
    provider: Names = Field(default_factory=list)
    model: Names = Field(default_factory=list)


class DriftView(BaseModel):
    """
    One model of a provider on one UTC day: `ours` is what the books say, `theirs` what the export says, `difference`
    theirs beyond ours. `drift_percent` is the difference in percent of theirs, cut to one decimal; null where they
    charged nothing. `model` null: items that name none. Usage without a price (`unpriced_requests`) explains a drift.
    """

    provider: str
    day: date
    model: str | None
    currency: str
    ours: str
    theirs: str
    difference: str
    drift_percent: str | None
    requests: int
    unpriced_requests: int
    names: list[str]
    items: list[str]


class DriftList(BaseModel):
    """By provider, day and model; days of which no export was imported are not there."""

    items: list[DriftView]
    next_cursor: str | None


class ImportView(BaseModel):
    """
    What was taken of an export: the days it is about, its lines, how many of them are new or others,
    and how many alerts of drift were raised.
    """

    provider: str
    first_day: date | None
    last_day: date | None
    days: int
    missing_days: list[date]
    lines: int
    changed: int
    alerts: int


async def list_drifts(call: Call[ReconciliationQuery, None]) -> Answer:
    """
    Drift per provider, day and model.

    Raises:
        Rejected: names the parameter that is wrong.
    """
    query = call.query
    end = query.end or call.parts.now().date() + timedelta(days=1)
    start = query.start or end - timedelta(days=_DAYS)
    if not start < end <= start + timedelta(days=3660):
        raise Rejected("invalid query", [FieldError("end", "must be after start, by ten years at most")])
    found = await reconciling.drifts(
        call.parts.pool,
        start,
        end,
        providers=[canonical_provider(name) for name in query.provider],
        models=query.model,
    )
    skip = max(0, read_cursor(query.cursor, int)) if query.cursor else 0
    upto = skip + query.page_size
    items = [_view(one) for one in found[skip:upto]]
    return Answer(DriftList(items=items, next_cursor=write_cursor(upto) if upto < len(found) else None))


async def import_export(call: Call[Query, Any]) -> Answer:
    """
    Take a provider's export: it stands for all of its days from now on.

    Raises:
        Rejected: names the place that is wrong; nothing is taken.
    """
    percent = call.parts.settings.drift_alert_percent
    done = await reconciling.import_invoice(
        call.parts.pool, call.body, actor=call.actor, alert_percent=percent, now=call.parts.now()
    )
    first, last = (done.days[0], done.days[-1]) if done.days else (None, None)
    there = set(done.days)
    missing = [day for day in _between(first, last) if day not in there]
    view = ImportView(
        provider=done.provider, first_day=first, last_day=last, days=len(done.days), missing_days=missing,
        lines=done.lines, changed=done.changed, alerts=done.alerts,
    )  # fmt: skip
    return Answer(view, 201)


def _between(first: date | None, last: date | None) -> list[date]:
    if first is None or last is None:
        return []
    return [first + timedelta(days=number) for number in range(min((last - first).days, 3660))]


def _view(one: Drift) -> DriftView:
    return DriftView(
        provider=one.provider,
        day=one.day,
        model=one.model,
        currency=one.currency,
        ours=format_nanos(one.ours),
        theirs=format_nanos(one.theirs),
        difference=format_nanos(one.difference),
        drift_percent=one.percent,
        requests=one.requests,
        unpriced_requests=one.unpriced_requests,
        names=list(one.names),
        items=list(one.items),
    )


_TAGS = ("reading",)
ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/reconciliation",
        summary="The books beside the providers' own exports",
        handle=list_drifts,
        query=ReconciliationQuery,
        answers={200: DriftList},
        tags=_TAGS,
    ),
    Endpoint(
        method="POST",
        path="/api/reconciliation/exports",
        summary="Take a provider's export of its costs",
        handle=import_export,
        body=bytes,
        read=bytes,
        consumes=("application/json", "text/csv"),
        answers={201: ImportView},
        tags=("administering",),
    ),
)
