"""Holds and the answers that placed them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from budget_bus.errors import Retryable
from budget_bus.policy.budget import Budget, Policy, Unit
from budget_bus.policy.holds import CLOCK_SKEW, Hold, HoldState
from budget_bus.policy.scope import Call
from budget_bus.policy.windows import Window
from budget_bus.store.sql import queries

_SQL = queries("holds")

Caller = tuple[str, str, str]


class Decided(NamedTuple):
    """A decision to remember: its answer is given again, byte for byte, to the same question."""

    request_id: UUID
    digest: bytes
    action: str
    answer: str
    decided_at: datetime
    component: str
    provider: str
    model: str
    asked: Mapping[str, Any]  # for a replay: what the call was, without its texts, and what it was estimated at


class Placed(NamedTuple):
    """A hold to place, in the order of its columns."""

    request_id: UUID
    component: str
    provider: str
    model: str
    tier: str
    task_type: str | None
    context_id: str | None
    user: str | None
    tags: dict[str, str]
    cost_nanos: int | None
    tokens: int
    currency: str
    balance_ids: str  # as PostgreSQL writes an array, see `array_text`
    amounts: str
    decided_at: datetime
    expires_at: datetime
    lease: bool = False
    calls: int = 1
    units: str = ""


LETTERS = {Unit.COST: "c", Unit.TOKENS: "t", Unit.REQUESTS: "r"}  # how `Hold.units` writes a unit


async def lock_named(connection: asyncpg.Connection, request_ids: Collection[UUID]) -> dict[UUID, Hold]:
    """Lock the holds that events name, whatever their state."""
    if not request_ids:
        return {}
    rows = await connection.fetch(_SQL["lock_named"], sorted(set(request_ids)))
    return {row["request_id"]: _hold(row) for row in rows}


async def lock_oldest_open(
    connection: asyncpg.Connection,
    wanted: Iterable[tuple[Caller, str | None]],
    events: Mapping[Caller, int],
    newest: Mapping[Caller, datetime],
    named: Collection[UUID] = (),
) -> dict[Caller, list[Hold]]:
    """
    Lock the oldest open holds of each caller of *wanted*, within a context where one is given; oldest first.

    As many as the caller has *events*: holds that other events take leave enough for the rest. Holds that events
    have *named* are left out, for these take them.
    """
    keys = sorted(set(wanted), key=lambda key: (key[0], key[1] or ""))
    if not keys:
        return {}
    callers = [caller for caller, _ in keys]
    rows = await connection.fetch(
        _SQL["lock_oldest_open"],
        *(list(column) for column in zip(*callers, strict=True)),
        [context_id for _, context_id in keys],
        [events[caller] for caller in callers],
        [newest[caller] + CLOCK_SKEW for caller in callers],
        list(named),
    )
    found: dict[Caller, list[Hold]] = {}
    for row in rows:
        found.setdefault((row["component"], row["provider"], row["model"]), []).append(_hold(row, row["context_id"]))
    return found


async def pin(connection: asyncpg.Connection, budget: Budget, window: Window, balance_id: int) -> tuple[int, int]:
    """
    Charge a balance that is being born with the holds that were placed before it: they are pinned to it as well.

    Unconfirmed ones charge hard budgets, and those that may be hard by default.

    Returns:
        What is held and what is unconfirmed on it.
    """
    spec, sums = budget.spec, {HoldState.OPEN: 0, HoldState.UNCONFIRMED: 0}
    hard = spec.policy in (Policy.HARD_LIMIT, None) and not spec.shadow
    pinned: dict[UUID, int] = {}
    asked = (window.start, window.end, window.context_id, spec.currency)
    for row in await connection.fetch(_SQL["lock_in_window"], *asked):
        state = HoldState(row["state"])
        if spec.scope.admits(call_of(row)) and (hard or state is HoldState.OPEN):
            amount = {Unit.COST: row["cost"] or 0, Unit.TOKENS: row["tokens"], Unit.REQUESTS: row["calls"]}[spec.unit]
            pinned[row["request_id"]] = amount
            sums[state] += amount
    if pinned:
        await connection.execute(_SQL["pin"], list(pinned), balance_id, list(pinned.values()), LETTERS[spec.unit])
    return sums[HoldState.OPEN], sums[HoldState.UNCONFIRMED]


def call_of(row: Any) -> Call:
    """What scopes look at, of a row of the ledger or of the holds."""
    return Call(
        component=row["component"],
        provider=row["provider"],
        model=row["model"],
        tier=row["tier"],
        task_type=row["task_type"],
        context_id=row["context_id"],
        user=row["user_name"],
        tags=tuple((row["tags"] or {}).items()),
    )


class Settled(NamedTuple):
    """A hold, the event that settles it, and the nanos and tokens that the event used beyond it, None for none."""

    request_id: UUID
    event_id: UUID
    overrun_nanos: int | None
    overrun_tokens: int | None


async def settle(connection: asyncpg.Connection, settled: Sequence[Settled]) -> None:
    """Close locked holds that events have settled."""
    if settled:
        await connection.execute(_SQL["settle"], *_columns(settled, 4))


async def close(connection: asyncpg.Connection, request_ids: Iterable[UUID], state: HoldState) -> None:
    """Close locked holds that no event has settled."""
    ids = list(request_ids)
    if ids:
        await connection.execute(_SQL["close"], ids, state.value)


async def shrink(connection: asyncpg.Connection, leases: Iterable[Hold]) -> None:
    """Write what is left of locked leases."""
    rows = [
        (h.request_id, h.cost_nanos, h.tokens, h.calls, array_text(h.amounts), array_text(h.given_back)) for h in leases
    ]
    if rows:
        await connection.execute(_SQL["shrink"], *_columns(rows, 6))


async def release_early(connection: asyncpg.Connection, request_ids: Collection[UUID], *, at: datetime) -> None:
    """Take the ids of requests that are released but not decided, so that their checks will place nothing."""
    if request_ids:
        await connection.execute(_SQL["release_early"], sorted(request_ids), at)


async def extend(connection: asyncpg.Connection, until: Mapping[UUID, datetime]) -> None:
    """Let locked holds end later; never earlier."""
    if until:
        await connection.execute(_SQL["extend"], list(until), list(until.values()))


async def lock_expired(connection: asyncpg.Connection, watermark: datetime, *, limit: int) -> dict[UUID, Hold]:
    """Lock open holds that ended before *watermark*, leaving out those that are being settled."""
    rows = await connection.fetch(_SQL["lock_expired"], watermark, limit)
    return {row["request_id"]: _hold(row) for row in rows}


async def leave_unconfirmed(connection: asyncpg.Connection, charged: Iterable[Hold]) -> None:
    """Mark locked holds as unconfirmed; each has only the balances, of hard budgets, that stay charged."""
    rows = [(h.request_id, array_text(h.balance_ids), array_text(h.amounts), h.units) for h in charged]
    if rows:
        await connection.execute(_SQL["leave_unconfirmed"], *_columns(rows, 4))


class Known(NamedTuple):
    """What was decided before for a request_id; *released* before it was decided, there is no answer."""

    digest: bytes
    answer: str
    released: bool = False


async def known_decisions(connection: asyncpg.Connection, request_ids: Sequence[UUID]) -> dict[UUID, Known]:
    """The questions that were decided before."""
    rows = await connection.fetch(_SQL["known_decisions"], request_ids)
    return {row["request_id"]: Known(row["digest"], row["answer"], row["action"] == "released") for row in rows}


async def place(
    connection: asyncpg.Connection, decided: Sequence[Decided], placed: Sequence[Placed], held: Mapping[int, int]
) -> None:
    """
    Write decisions, holds and what they hold, in one statement.

    *held* is balance_id -> amount; those balances are locked.

    Raises:
        Retryable: another decider answered one of them since; roll back and look again.
    """
    *arrays, asked = _columns(decided, 9)
    arrays += _columns(placed, 19)
    balances = sorted(held)
    try:
        await connection.execute(_SQL["place"], *arrays, balances, [held[b] for b in balances], asked)
    except asyncpg.UniqueViolationError:
        raise Retryable("a check was answered by another decider at the same moment") from None


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def array_text(values: Iterable[int]) -> str:
    """A list of numbers as PostgreSQL text: arrays of different lengths do not fit one two-dimensional parameter."""
    return "{" + ",".join(map(str, values)) + "}"


def _hold(row: Any, context_id: str | None = None) -> Hold:
    return Hold(
        request_id=row["request_id"],
        state=HoldState(row["state"]),
        decided_at=row["decided_at"],
        cost_nanos=row["cost_nanos"],
        tokens=row["tokens"],
        balance_ids=tuple(row["balance_ids"]),
        amounts=tuple(row["amounts"]),
        context_id=context_id,
        component=row["component"],
        lease=row["lease"],
        calls=row["calls"],
        units=row["units"],
        given_back=tuple(row["given_back"]),
    )
