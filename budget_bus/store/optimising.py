"""What calls had in common, what was refused, and what windows have taken: where money might be saved."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from budget_bus.store.sql import queries

_SQL = queries("optimising")

AT_ONCE = 2_000


class Repeated(NamedTuple):
    """
    Calls of one component, model and task type. Of their `plain_tokens` of input, `read_tokens` were in the `repeats`
    as in the call before of their context, and `written_tokens` began a context.
    """

    component: str
    provider: str
    model: str
    task_type: str | None
    requests: int
    plain_tokens: int
    repeats: int
    read_tokens: int
    written_tokens: int


class Refused(NamedTuple):
    """
    Checks that a window of a budget was the reason to deny: `amount` in its unit, `cost` in that of prices. `committed`
    is the most that it had taken then, which may be more than what was spent of it in the end.
    """

    budget_id: UUID
    window_start: datetime
    checks: int
    amount: Decimal
    committed: Decimal
    cost: Decimal


class WindowTaken(NamedTuple):
    """What is spent, held and unconfirmed in one window, in the budget's unit."""

    budget_id: UUID
    window_start: datetime
    window_end: datetime | None
    committed: int


async def used(connection: asyncpg.Connection, start: datetime, end: datetime) -> AsyncGenerator[list[Any]]:
    """The events that occurred in `[start, end)`, at most AT_ONCE in memory; the connection is in a transaction."""
    cursor = await connection.cursor(_SQL["used"], start, end)
    while rows := await cursor.fetch(AT_ONCE):
        yield rows


async def denied(connection: asyncpg.Connection, start: datetime, end: datetime) -> bool:
    """Whether a check of `[start, end)` was denied."""
    return bool(await connection.fetchval(_SQL["denied"], start, end))


async def repeated(
    connection: asyncpg.Connection, start: datetime, end: datetime, *, within: timedelta, least_tokens: int
) -> list[Repeated]:
    """Groups of calls of `[start, end)` that repeated an input of *least_tokens* or more *within* that time."""
    return [Repeated(*row) for row in await connection.fetch(_SQL["repeated"], start, end, within, least_tokens)]


async def refused(connection: asyncpg.Connection, start: datetime, end: datetime) -> list[Refused]:
    """What checks of `[start, end)` were denied, by budget and window."""
    return [Refused(*row) for row in await connection.fetch(_SQL["refused"], start, end)]


async def taken(connection: asyncpg.Connection, start: datetime, end: datetime) -> list[WindowTaken]:
    """What windows that reach into `[start, end)` have taken, by budget, oldest first."""
    return [WindowTaken(*row) for row in await connection.fetch(_SQL["taken"], start, end)]
