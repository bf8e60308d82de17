"""What windows of budgets have taken, for whoever looks: the one that is current, and those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from budget_bus.policy.budget import Balance, Budget
from budget_bus.policy.rollover import carried, hands_on
from budget_bus.policy.windows import Period, Window
from budget_bus.store.balances import balance_from_row, ledger_sum
from budget_bus.store.catalogue import place_of
from budget_bus.store.sql import queries

_SQL = queries("windows")


class Taken(NamedTuple):
    """A window and what it has taken; `window` is None for a per_context budget that no context is using."""

    window: Window | None
    balance: Balance


async def current(pool: asyncpg.Pool, budgets: Sequence[Budget], now: datetime) -> list[Taken]:
    """
    The current window of each budget, in their order.

    Of a per_context budget it is the one of the running contexts that has taken the largest share of its limit.
    """
    shared = [(b, b.window(now)) for b in budgets if b.spec.period is not Period.PER_CONTEXT]
    found = {
        budget.budget_id: Taken(window, balance)
        for (budget, window), balance in zip(shared, await _balances(pool, shared), strict=True)
    }
    contexts = [b.budget_id for b in budgets if b.spec.period is Period.PER_CONTEXT]
    if contexts:
        found |= {row["budget_id"]: _taken(row) for row in await pool.fetch(_SQL["fullest"], contexts, now)}
    return [found.get(budget.budget_id, Taken(None, Balance())) for budget in budgets]


async def windows(
    pool: asyncpg.Pool,
    budget: Budget,
    *,
    now: datetime,
    start: datetime | None,
    end: datetime | None,
    context_id: str | None,
    before: tuple[datetime, str] | None,
    count: int,
) -> list[tuple[Window, Balance]]:
    """
    At most *count* windows that reach into `[start, end)` and have begun, newest first, after the one that began at
    *before*. The current one is there also when nothing was used in it yet; others are only if something was.
    """
    at = before or (None, None)
    rows = await pool.fetch(_SQL["windows"], budget.budget_id, now, start, end, context_id, *at, count)
    found = [(_window(row), balance_from_row(row)) for row in rows]
    if before is None and budget.spec.period is not Period.PER_CONTEXT:
        window = budget.window(now)
        wanted = (end is None or window.start < end) and (start is None or window.end is None or start < window.end)
        if wanted and not any(one == window for one, _ in found):
            (balance,) = await _balances(pool, [(budget, window)])
            found = [(window, balance), *found][:count]
    return found


async def _balances(pool: asyncpg.Pool, wanted: Sequence[tuple[Budget, Window]]) -> list[Balance]:
    places = [place_of(budget, window) for budget, window in wanted]
    columns = [list(column) for column in zip(*places, strict=True)] if places else [[], [], []]
    found = {
        (row["budget_id"], row["context_id"], row["window_start"]): balance_from_row(row)
        for row in await pool.fetch(_SQL["balances"], *columns)
    }
    out = []
    for budget, window in wanted:
        balance = found.get(place_of(budget, window))
        out.append(await _unborn(pool, budget, window) if balance is None else balance)
    return out


async def _unborn(pool: asyncpg.Pool, budget: Budget, window: Window) -> Balance:
    """What a balance that does not exist yet will be born with."""
    async with pool.acquire() as connection:
        balance = Balance(await ledger_sum(connection, budget, window))
        row = await connection.fetchrow(_SQL["last_before"], budget.budget_id, window.start)
    if row and hands_on(budget, _window(row), window.start):
        balance = replace(balance, carried_in=carried(budget, _window(row), balance_from_row(row), window).into)
    return balance


def _taken(row: Any) -> Taken:
    return Taken(_window(row), balance_from_row(row))


def _window(row: Any) -> Window:
    return Window(row["window_start"], row["window_end"], row.get("context_id", ""))
