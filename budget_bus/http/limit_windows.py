"""GET /api/limits/{id}/windows: what a limit's windows have taken, the present one and those before it."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, Field

from budget_bus.errors import FieldError, Rejected
from budget_bus.http.budgets import amounts, budget_id_of
from budget_bus.http.parts import Call
from budget_bus.http.query import Moment, Page, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.policy.windows import Period
from budget_bus.store import history, limits, windows

_INSTANT = timedelta(microseconds=1)


class WindowQuery(Page):
    """Windows that reach into `[start, end)`; of a per_context budget, those of one context."""

    start: Moment | None = None
    end: Moment | None = None
    context_id: str | None = Field(None, min_length=1, max_length=200)


class WindowView(BaseModel):
    """
    What one window has taken. `limit` is what it was at the window's end, or is now while it runs, with the raises of
    that time and with what was carried in and out.
    """

    window_start: datetime
    window_end: datetime | None
    context_id: str | None
    limit: str
    spent: str
    held: str
    unconfirmed: str
    available: str
    carried_in: str
    carried_out: str


class WindowList(BaseModel):
    """Windows, newest first. Past ones in which nothing was used are left out."""

    items: list[WindowView]
    next_cursor: str | None


async def list_windows(call: Call[WindowQuery, None]) -> Answer:
    """The windows of one budget."""
    parts, query, now = call.parts, call.query, call.parts.now()
    budget = await limits.get_limit(parts.pool, budget_id_of(call))
    if query.context_id is not None and budget.spec.period is not Period.PER_CONTEXT:
        message = f"goes with a limit of period per_context; this one is {budget.spec.period.value}"
        raise Rejected("invalid query", [FieldError("context_id", message)])
    if query.start and query.end and query.start >= query.end:
        raise Rejected("invalid query", [FieldError("end", "must lie after start")])
    before = read_cursor(query.cursor, _place) if query.cursor else None
    found = await windows.windows(
        parts.pool,
        budget,
        now=now,
        start=query.start,
        end=query.end,
        context_id=query.context_id,
        before=before,
        count=query.page_size + 1,
    )
    shown = found[: query.page_size]
    ends = [now if window.end is None or now < window.end else window.end - _INSTANT for window, _ in shown]
    items = [
        WindowView(
            window_start=window.start,
            window_end=window.end,
            context_id=window.context_id or None,
            **amounts(budget, balance, limit + balance.carried_in - balance.carried_out),
        )
        for (window, balance), limit in zip(shown, await history.limits_at(parts.pool, budget, ends), strict=True)
    ]
    last = shown[-1][0] if len(found) > len(shown) else None
    return Answer(WindowList(items=items, next_cursor=write_cursor(last.start, last.context_id) if last else None))


def _place(at: str, context_id: str) -> tuple[datetime, str]:
    instant = datetime.fromisoformat(at)
    if instant.tzinfo is None or not isinstance(context_id, str):
        raise ValueError("a cursor's time has a zone, and its context is text")
    return instant, context_id


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/limits/{budget_id}/windows",
        summary="A limit's windows",
        handle=list_windows,
        query=WindowQuery,
        answers={200: WindowList},
        tags=("reading",),
    ),
)
