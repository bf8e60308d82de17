"""GET /api/reports/export: the ledger itself, a row per event or per charge, streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from budget_bus.errors import FieldError, Rejected
from budget_bus.http.parts import Call, Parts
from budget_bus.http.prices import price_book
from budget_bus.http.query import Moment, Names, Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.insight import focus
from budget_bus.providers.names import canonical_provider
from budget_bus.providers.prices import PriceBook
from budget_bus.store.export import ledger_csv, ledger_rows

Rows = list[Mapping[str, Any]]

COLUMNS = (
    "event_id", "occurred_at", "accounted_at", "recorded_at", "component", "provider", "model", "tier", "service_tier",
    "task_type", "context_id", "user", "operation_id", "tags", "input_tokens", "output_tokens",
    "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation_1h_input_tokens",
    "reasoning_output_tokens", "input_audio_tokens", "output_audio_tokens", "input_image_tokens", "output_image_tokens",
    "token_source", "cost", "input_cost", "output_cost", "currency", "price_status", "price_source", "reported_cost",
    "reported_currency", "request_id", "late", "unreserved",
)  # fmt: skip


class ExportQuery(Query):
    """
    The events of `[start, end)` by the time they occurred: the last 30 days until now unless they are given. `csv` is a
    row per event as the ledger has it, `focus` is FOCUS 1.2, a row per charge of an event.
    """

    format: Literal["csv", "focus"] = "csv"
    start: Moment | None = None
    end: Moment | None = None
    component: Names = Field(default_factory=list)
    provider: Names = Field(default_factory=list)
    model: Names = Field(default_factory=list)


async def export(call: Call[ExportQuery, None]) -> Answer:
    """
    Ledger rows as CSV, in the order the events occurred; money is a decimal, empty while a row is unpriced (in FOCUS,
    which allows no empty cost, 0 with `x_PriceStatus` unpriced).

    All rows are of one moment, however long it takes to send them. Texts that a spreadsheet would take for a formula
    begin with an apostrophe.
    """
    query = call.query
    end = query.end or call.parts.now()
    start = query.start or end - timedelta(days=30)
    if start >= end:
        raise Rejected("invalid query", [FieldError("start", f"must lie before the end, {end.isoformat()}")])
    filters = {
        "component": query.component,
        "provider": [canonical_provider(name) for name in query.provider],
        "model": query.model,
    }
    parts = call.parts
    if query.format == "focus":
        rows = ledger_rows(parts.pool, start, end, filters=filters)
        content = _stream(parts, focus.header(), _charges(rows, await price_book(parts)))
    else:
        lines = ledger_csv(parts.pool, start, end, filters=filters)
        content = _stream(parts, (",".join(COLUMNS) + "\n").encode(), lines)
    return Answer(content, media_type="text/csv; charset=utf-8")


async def _stream(parts: Parts, header: bytes, lines: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """Part by part, so that memory does not grow with the rows."""
    yield header
    async with parts.exporting, aclosing(lines):
        async for some in lines:
            yield some


async def _charges(pages: AsyncGenerator[Rows], prices: PriceBook) -> AsyncGenerator[bytes]:
    """Written in a thread, so that others are answered."""
    async with aclosing(pages):
        async for rows in pages:
            yield await asyncio.to_thread(focus.lines, rows, prices)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/reports/export",
        summary="The ledger's rows",
        handle=export,
        query=ExportQuery,
        answers={200: None},
        produces="text/csv",
        tags=("reading",),
    ),
)
