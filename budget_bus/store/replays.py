"""The past as it lies in the books, for a replay: in the order in which balances were locked, a few rows at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from budget_bus.policy.budget import Budget, Unit
from budget_bus.policy.scope import FIELDS
from budget_bus.policy.windows import Window
from budget_bus.store.holds import call_of
from budget_bus.store.sql import queries

_SQL = queries("replays")
AT_ONCE = 2_000
_TIMEOUT_S = 3600.0


class Cut(NamedTuple):
    """Of a partition: from which offset on places are kept, and the first offset that is not before the span."""

    kept_from: int
    cut: int | None


class Span(NamedTuple):
    """
    A range of time, and the places `[first, after)` in the order that it saw; both 0 when nothing happened in it.

    `cuts` says of each partition of usage what was booked before.
    """

    start: datetime
    end: datetime
    first: int
    after: int
    cuts: Mapping[tuple[str, int], Cut]

    def booked_before(self, topic: str, part: int, offset: int) -> bool:
        """Whether a record was booked before the span."""
        cut = self.cuts.get((topic, part))
        return cut is None or offset < cut.kept_from or cut.cut is None or offset < cut.cut


async def span(connection: asyncpg.Connection, start: datetime, end: datetime) -> Span:
    """The places that `[start, end)` saw."""
    row = await connection.fetchrow(_SQL["span"], start, end, timeout=_TIMEOUT_S)
    if row["first"] is None:
        return Span(start, end, 0, 0, {})
    cuts = await connection.fetch(_SQL["cuts"], row["first"], timeout=_TIMEOUT_S)
    by_part = {(cut["topic"], cut["part"]): Cut(cut["kept_from"], cut["cut"]) for cut in cuts}
    return Span(start, end, row["first"], row["after"], by_part)


async def count(connection: asyncpg.Connection, start: datetime, end: datetime) -> int:
    """How many events and decisions `[start, end)` has."""
    return int(await connection.fetchval(_SQL["count"], start, end, timeout=_TIMEOUT_S))


def events(connection: asyncpg.Connection, of: Span, *, by_time: bool) -> AsyncGenerator[list[Any]]:
    """Usage; the connection is in a transaction."""
    return _chunks(connection, _SQL["events"], of.start, of.end, of.first, of.after, by_time)


def decisions(connection: asyncpg.Connection, of: Span, *, by_time: bool) -> AsyncGenerator[list[Any]]:
    """Answers to checks, with what was asked."""
    return _chunks(connection, _SQL["decisions"], of.start, of.end, of.first, of.after, by_time)


def movements(connection: asyncpg.Connection, of: Span, *, by_time: bool) -> AsyncGenerator[list[Any]]:
    """What else moved balances: ends of holds, returns of leases, what windows handed on."""
    return _chunks(connection, _SQL["movements"], of.first, of.after, by_time)


async def _chunks(connection: asyncpg.Connection, query: str, *parameters: Any) -> AsyncGenerator[list[Any]]:
    cursor = await connection.cursor(query, *parameters, timeout=_TIMEOUT_S)
    while rows := await cursor.fetch(AT_ONCE, timeout=_TIMEOUT_S):
        yield rows


async def open_holds(connection: asyncpg.Connection, of: Span) -> Sequence[Any]:
    """Holds that may have been open when the span began, with where each ended."""
    found = await connection.fetch(_SQL["open_holds"], of.first, of.start, of.first > 0, timeout=_TIMEOUT_S)
    return list(found)


async def taken(
    connection: asyncpg.Connection, of: Span, request_ids: Collection[UUID], since: datetime
) -> Sequence[Any]:
    """What was taken of leases before the span."""
    return list(await connection.fetch(_SQL["taken"], of.first, list(request_ids), since, timeout=_TIMEOUT_S))


async def sum_before(connection: asyncpg.Connection, of: Span, budget: Budget, window: Window) -> int:
    """What *budget* had spent of *window* when the span began."""
    scope, unit = budget.spec.scope, budget.spec.unit
    asked = [name in scope.rules for name in FIELDS] + [bool(scope.tags)]
    topics = [topic for topic, _ in of.cuts]
    parts = [part for _, part in of.cuts]
    kept_from = [cut.kept_from for cut in of.cuts.values()]
    rows = await connection.fetch(
        _SQL["sums"], window.start, window.end, *asked, window.context_id, budget.spec.currency, topics, parts,
        kept_from, [cut.cut for cut in of.cuts.values()], of.start, timeout=_TIMEOUT_S,
    )  # fmt: skip
    column = {Unit.COST: "cost", Unit.TOKENS: "tokens", Unit.REQUESTS: "requests"}[unit]
    return sum(row[column] for row in rows if scope.admits(call_of(row)))


async def windows(
    connection: asyncpg.Connection, of: Span, budget_ids: Collection[UUID], ending_after: datetime
) -> Sequence[Any]:
    """The windows of budgets that were used and end after an instant, by budget, context and start."""
    return list(await connection.fetch(_SQL["windows"], list(budget_ids), ending_after, of.first, timeout=_TIMEOUT_S))


async def changes(connection: asyncpg.Connection, of: Span) -> int:
    """How often limits and run-time settings were changed in the span."""
    return int(await connection.fetchval(_SQL["changed_budgets"], of.start, of.end))
