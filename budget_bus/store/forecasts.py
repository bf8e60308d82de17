"""Forecasts as they are kept, and the sums per hour that they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from budget_bus.policy.budget import Budget, Unit
from budget_bus.policy.exchange import ExchangeRates, utc_day
from budget_bus.policy.forecast_alerts import Watch
from budget_bus.policy.scope import Call
from budget_bus.store.sql import queries

_SQL = queries("forecasts")
_TOLD_APART = ("provider", "model", "tier", "task_type", "context_id", "user")

# component -> the instant that an hour begins at -> the amount in the budget's unit
Hourly = dict[str, dict[datetime, int]]


class Stored(NamedTuple):
    """A forecast that was made; without `path` it says only why there is none."""

    window_start: datetime
    made_at: datetime
    method: str | None
    reason: str | None
    expected: int | None = None
    low: int | None = None
    high: int | None = None
    error_percent: Decimal | None = None
    run_rate_percent: Decimal | None = None
    path: Mapping[str, Any] | None = None
    leaving_out: str = ""


async def hourly(
    connection: asyncpg.Connection, budget: Budget, rates: ExchangeRates, since: datetime, until: datetime
) -> Hourly:
    """
    What *budget*'s scope used in each hour of its zone's clock in `[since, until)`, by component, from the rollups.

    These count by the time of the call, not of its check, and know no tags. What has no exchange rate counts nothing.
    """
    scope, zone = budget.spec.scope, budget.spec.timezone
    asked = [name in scope.rules for name in _TOLD_APART]
    rows = await connection.fetch(_SQL["hours"], since, until, zone, *asked, timeout=3600)
    found: Hourly = {}
    for row in rows:
        call = Call(row["component"], row["provider"] or "", row["model"] or "", row["tier"] or "", row["task_type"],
                    row["context_id"], row["user_name"])  # fmt: skip
        if scope.admits(call):
            hours = found.setdefault(row["component"], {})
            hours[row["hour"]] = hours.get(row["hour"], 0) + _amount(budget, row, rates)
    return found


def _amount(budget: Budget, row: Any, rates: ExchangeRates) -> int:
    unit, currency = budget.spec.unit, budget.spec.currency
    if unit is not Unit.COST:
        return int(row["requests"] if unit is Unit.REQUESTS else row["tokens"])
    return rates.convert(row["cost"], row["currency"], currency or row["currency"], utc_day(row["hour"])) or 0


async def due(
    connection: asyncpg.Connection, budgets: Iterable[Budget], now: datetime, interval: timedelta
) -> list[Budget]:
    """Those of *budgets* whose forecast is of another window, older than *interval*, or not there."""
    made = {row["budget_id"]: row for row in await connection.fetch(_SQL["made"])}
    return [
        budget
        for budget in budgets
        if (row := made.get(budget.budget_id)) is None
        or row["made_at"] <= now - interval
        or row["window_start"] != budget.window(now).start
    ]


async def lock(connection: asyncpg.Connection, budget_id: UUID, window_start: datetime) -> tuple[datetime, Watch]:
    """
    Lock a budget's forecast until the transaction ends: when it was made, and what it was compared with for alerts.

    The epoch if it is of another window.
    """
    await connection.execute(_SQL["begin"], budget_id, window_start)
    row = await connection.fetchrow(_SQL["lock"], budget_id)
    if row["window_start"] != window_start:
        return datetime.fromisoformat("1970-01-01T00:00:00+00:00"), Watch()
    return row["made_at"], Watch(row["alert_version"], row["seen"], row["kept"], row["announced"])


async def write(connection: asyncpg.Connection, budget_id: UUID, made: Iterable[Stored], watch: Watch) -> None:
    """Keep what was *made* of a locked budget, all at the same moment, instead of what was there."""
    for one in made:
        await connection.execute(
            _SQL["write"],
            budget_id,
            one.leaving_out,
            one.window_start,
            one.made_at,
            one.method,
            one.reason,
            one.expected,
            one.low,
            one.high,
            one.error_percent,
            one.run_rate_percent,
            one.path,
        )
        await connection.execute(_SQL["forget_others"], budget_id, one.made_at)
    await connection.execute(_SQL["watched"], budget_id, *watch)


async def forget_removed(connection: asyncpg.Connection) -> None:
    """Drop the forecasts of budgets that are no longer in force."""
    await connection.execute(_SQL["forget_removed"])


async def read(
    connection: asyncpg.Connection | asyncpg.Pool, budget_ids: Iterable[UUID], *, leaving_out: str = ""
) -> dict[UUID, Stored]:
    """
    The forecasts of budgets, or what all others than a component will spend: where that is not told apart, it is what
    the whole budget will.
    """
    rows = await connection.fetch(_SQL["read"], list(budget_ids), leaving_out)
    return {
        row["budget_id"]: Stored(
            row["window_start"],
            row["made_at"],
            row["method"],
            row["reason"],
            error_percent=row["backtest_error_percent"],
            run_rate_percent=row["run_rate_error_percent"],
            path=row["path"],
            leaving_out=row["leaving_out"],
        )
        for row in rows
    }
