"""Runs a replay: rows stream out of one snapshot in their order, the work is done beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import asyncpg

from budget_bus.consumers.prices import refresh_prices
from budget_bus.errors import FieldError, Rejected
from budget_bus.insight.replay.beginning import begin
from budget_bus.insight.replay.costs import Costing
from budget_bus.insight.replay.engine import IN_ORDER, Engine
from budget_bus.insight.replay.outcome import BudgetOutcome, Outcome
from budget_bus.insight.replay.proposal import Proposal
from budget_bus.policy.budget import Policy
from budget_bus.providers.prices import PriceBook
from budget_bus.store import replays
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.replays import Span

MAX_ROWS: Final = 1_000_000
_CHUNK = 1_000

Progress = Callable[[int, int], None]  # how many rows of how many are done


async def replay(
    pool: asyncpg.Pool,
    prices: PriceBook,
    *,
    start: datetime,
    end: datetime,
    proposal: Proposal,
    default_policy: Policy = Policy.WARN,
    max_rows: int = MAX_ROWS,
    progress: Progress = lambda done, total: None,
) -> Outcome:
    """
    What the calls and checks of `[start, end)` would have come to under *proposal*, beside what they came to.

    Checks are decided again in the order in which production had the balances. One that is refused has no usage, one
    that was refused and is allowed is assumed to have used what it asked for, and usage that nobody asked for is spent
    unless the proposal asks for it. Without a proposal every decision is the one that production gave, as long as
    limits and costs are those of then. *default_policy* is what budgets follow that have none of their own.

    Raises:
        Rejected: the range has more than *max_rows* rows, or the proposal names a model without a price.
    """
    if start >= end:
        raise Rejected("invalid range", [FieldError("start", "must lie before end")])
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        total = await replays.count(connection, start, end)
        if total > max_rows:
            message = f"has {total:,} rows, of which at most {max_rows:,} can be replayed at once; take a shorter range"
            raise Rejected("invalid range", [FieldError("start", message)])
        await refresh_prices(connection, prices)
        span = await replays.span(connection, start, end)
        return await replay_span(
            connection, prices, span, proposal, default_policy, progress=lambda done: progress(done, max(done, total))
        )


async def replay_span(
    connection: asyncpg.Connection,
    prices: PriceBook,
    span: Span,
    proposal: Proposal,
    default_policy: Policy,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Outcome:
    """
    As `replay`, in the transaction of *connection*: several replays of one snapshot differ by their proposals alone.

    *progress* is told how many rows are done.
    """
    outcome, costing = Outcome(), Costing(proposal, prices)
    await _warn(connection, span, proposal, outcome)
    accounts = await begin(connection, Catalogue(default_policy), span, proposal)
    outcome.budgets = {b.budget_id: BudgetOutcome(b) for b in accounts.catalogue.budgets}
    engine, done = Engine(span, accounts, costing, outcome), 0
    async for items in _merged(connection, span, by_time=proposal.ask_unchecked):
        await asyncio.to_thread(engine.apply, items)
        done += len(items)
        progress(done)
    return outcome


async def _warn(connection: asyncpg.Connection, span: Span, proposal: Proposal, outcome: Outcome) -> None:
    if changes := await replays.changes(connection, span):
        said = "limits of today are used for all of it" if proposal.is_nothing else "the proposal is used for all of it"
        outcome.warnings.append(f"limits were changed {changes} times in this range; {said}")


@dataclass(slots=True)
class _Stream:
    """Rows of one kind, a chunk at a time, each with its place in the order of all kinds."""

    kind: str
    chunks: AsyncGenerator[list[Any]]
    place: Callable[[Any], tuple[Any, ...]]
    rows: list[Any] = field(default_factory=list)
    at: int = 0
    head: tuple[Any, ...] | None = None

    async def step(self) -> None:
        """Go to the next row; `head` is its place, None behind the last."""
        self.at += 1
        if self.at >= len(self.rows):
            self.rows, self.at = await anext(self.chunks, []), 0
        self.head = self.place(self.rows[self.at]) if self.rows else None


async def _merged(connection: asyncpg.Connection, span: Span, *, by_time: bool) -> AsyncIterator[list[tuple[str, Any]]]:
    streams = [
        _Stream("movement", replays.movements(connection, span, by_time=by_time), _place_of_movement),
        _Stream("decision", replays.decisions(connection, span, by_time=by_time), _place_of_decision),
        _Stream("event", replays.events(connection, span, by_time=by_time), _place_of_event),
    ]
    if by_time:
        for stream, column in zip(streams, ("at", "decided_at", "occurred_at"), strict=True):
            stream.place = _by_time(column, span.start)
    for stream in streams:
        await stream.step()
    chunk: list[tuple[str, Any]] = []
    while left := [stream for stream in streams if stream.head is not None]:
        first = min(left, key=lambda stream: stream.head or ())
        chunk.append((first.kind, first.rows[first.at]))
        await first.step()
        if len(chunk) >= _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


# Places are (phase, seq, time): what was booked before or by a release that kept no order, the order, what came later.
_NO_TIME = 0.0


def _place_of_event(row: Any) -> tuple[Any, ...]:
    if row["phase"] == IN_ORDER:
        return (IN_ORDER, row["seq"], _NO_TIME)
    return (row["phase"], 0, row["occurred_at"].timestamp())


def _place_of_decision(row: Any) -> tuple[Any, ...]:
    return (0, 0, row["decided_at"].timestamp()) if row["seq"] is None else (IN_ORDER, row["seq"], _NO_TIME)


def _place_of_movement(row: Any) -> tuple[Any, ...]:
    return (IN_ORDER, row["seq"], _NO_TIME)


def _by_time(column: str, start: datetime) -> Callable[[Any], tuple[Any, ...]]:
    return lambda row: ((row[column] or start).timestamp(),)
