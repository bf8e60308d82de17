"""Every budget's forecast, made again and again beside the streams, with its alerts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import monotonic

import asyncpg
import structlog

from budget_bus.consumers.facts import tell_forecast
from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.insight.forecast import Forecast, forecast, nothing, spending_of, whole_hour
from budget_bus.insight.path import HIGH, LOW
from budget_bus.policy.alerts import Crossing
from budget_bus.policy.budget import Budget, Policy
from budget_bus.policy.forecast_alerts import watch
from budget_bus.policy.run_rate import run_rate
from budget_bus.policy.windows import Period, Window
from budget_bus.store import admin, exchange, fence, forecasts, windows
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.forecasts import Hourly, Stored
from budget_bus.store.windows import Taken

log = structlog.get_logger()

HISTORY = timedelta(days=90)
_LOCK = 0x6275646708  # one bookkeeper forecasts at a time
_MOST_COMPONENTS = 20  # of a hard budget, those that spend most: what the others will spend is told of each
_LOOK_S = 30.0  # a new budget, or a new window, waits at most so long for its forecast
_REST = 3.0  # times as long as a forecast took

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Forecaster:
    """Makes the forecasts that are due; each is written with its alerts in one transaction."""

    pool: asyncpg.Pool
    catalogue: Catalogue
    interval: timedelta
    clock: Clock = utc_now

    async def make_due(self, stopping: asyncio.Event) -> int:
        """Forecast what is due, with pauses, and say how many that were; none while another bookkeeper is at it."""
        async with self.pool.acquire() as connection:
            if not await admin.take_check_lock(connection, _LOCK):
                return 0
            try:
                return await self._make_due(connection, stopping)
            finally:
                if not connection.is_closed():
                    await admin.give_check_lock(connection, _LOCK)

    async def _make_due(self, connection: asyncpg.Connection, stopping: asyncio.Event) -> int:
        await self.catalogue.refresh(connection)
        await forecasts.forget_removed(connection)
        shared = [budget for budget in self.catalogue.budgets if budget.spec.period is not Period.PER_CONTEXT]
        count = 0
        for budget in await forecasts.due(connection, shared, self.clock(), self.interval):
            began = monotonic()
            count += await self.make(connection, budget)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), (monotonic() - began) * _REST)
            if stopping.is_set():
                break
        return count

    async def make(self, connection: asyncpg.Connection, budget: Budget) -> bool:
        """Forecast one budget; False if it was changed meanwhile, or another bookkeeper has just done it."""
        now = self.clock()
        window, why, hours = budget.window(now), _unforecastable(budget), Hourly()
        if why is None:
            rates = await exchange.read(connection)
            end = whole_hour(now, budget.spec.timezone)
            hours = await forecasts.hourly(connection, budget, rates, end - HISTORY, end)
        hard = self.catalogue.policy_of(budget) is Policy.HARD_LIMIT and not budget.spec.shadow
        made = await asyncio.to_thread(_forecasts, budget, window, now, hours, others=hard and why is None)
        taken, *_ = await windows.current(self.pool, [budget], now)
        stored = [
            _stored(one, why, name, budget=budget, window=window, taken=taken, now=now) for name, one in made.items()
        ]
        return await self.write(connection, budget, window, stored, now=now)

    async def write(
        self, connection: asyncpg.Connection, budget: Budget, window: Window, stored: list[Stored], *, now: datetime
    ) -> bool:
        """
        Keep what was made of a budget, that of the whole first, with the alerts that it is worth, in one transaction.

        False, with nothing written, if the budget was changed meanwhile or forecast less than half an interval ago.
        """
        async with connection.transaction():
            await fence.enter(connection, USAGE_RECORDED)
            await self.catalogue.refresh(connection)
            if budget not in self.catalogue.budgets:
                return False
            made_at, was = await forecasts.lock(connection, budget.budget_id, window.start)
            if made_at > now - self.interval / 2:
                return False  # two that agree must lie apart
            (taken,) = await windows.current(self.pool, [budget], now)
            limit = budget.limit_in(window, taken.balance, now)
            whole = stored[0]
            crossed: list[Crossing] = []
            watched = was
            if whole.expected is not None:
                crossed, watched = watch(budget, was, expected=whole.expected, low=whole.low, limit=limit)
            await forecasts.write(connection, budget.budget_id, stored, watched)
            if crossed and self.catalogue.policy_of(budget) is not Policy.IGNORE:
                change = (budget, window, taken.balance)
                await tell_forecast(connection, change, crossed, expected=whole.expected or 0, now=now)
        return True


async def keep_forecasting(forecaster: Forecaster, stopping: asyncio.Event) -> None:
    """Make what is due, at once and again, until *stopping*. What the database says is no reason to end."""
    while not stopping.is_set():
        try:
            if count := await forecaster.make_due(stopping):
                log.info("budgets were forecast", budgets=count)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            log.warning("forecasting is tried again", reason=f"{type(error).__name__}: {error}")
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _LOOK_S)


def _unforecastable(budget: Budget) -> str | None:
    if budget.spec.scope.tags:
        return "its scope has tags, which the sums per hour do not tell apart"
    if budget.spec.period is Period.HOURLY:
        return "an hour is the shortest time that is told apart"
    return None


def _forecasts(
    budget: Budget, window: Window, now: datetime, hours: Hourly, *, others: bool
) -> dict[str, Forecast | None]:
    """What the whole budget will spend, by '', and of those components that spend most, what all others will."""
    end = whole_hour(now, budget.spec.timezone)
    made: dict[str, Forecast | None] = {}
    for name, amounts in _left_out(hours, others=others):
        if name and not amounts:
            made[name] = nothing(end)
        else:
            spending = spending_of(amounts, end, budget.spec.timezone)
            made[name] = forecast(spending, window) if spending else None
    return made


def _left_out(hours: Hourly, *, others: bool) -> Iterator[tuple[str, dict[datetime, int]]]:
    yield "", _sums(hours, "")
    if others:
        largest = sorted(hours, key=lambda name: (-sum(hours[name].values()), name))[:_MOST_COMPONENTS]
        for component in largest:
            yield component, _sums(hours, component)


def _sums(hours: Hourly, leaving_out: str) -> dict[datetime, int]:
    sums: dict[datetime, int] = {}
    for component, amounts in hours.items():
        if component != leaving_out:
            for at, amount in amounts.items():
                sums[at] = sums.get(at, 0) + amount
    return sums


def _stored(
    made: Forecast | None, why: str | None, name: str, *, budget: Budget, window: Window, taken: Taken, now: datetime
) -> Stored:
    spent = taken.balance.spent
    if made is None:
        limit = budget.limit_in(window, taken.balance, now)
        line = run_rate(window, now=now, spent=spent, committed=taken.balance.committed, limit=limit)
        reason = why or "there is too little history to know how wrong a forecast would be"
        return Stored(window.start, now, None, reason, expected=line.expected if line else None, leaving_out=name)
    end = window.end
    ends = None if end is None else [spent + made.path.between(now, end, level) for level in (None, LOW, HIGH)]
    return Stored(
        window.start,
        now,
        made.method,
        None,
        expected=ends[0] if ends else None,
        low=ends[1] if ends else None,
        high=ends[2] if ends else None,
        error_percent=_percent(made.error_percent),
        run_rate_percent=_percent(made.run_rate_percent),
        path=made.path.to_json(),
        leaving_out=name,
    )


def _percent(value: float | None) -> Decimal | None:
    # An error of many millions of percent says no more than that the forecast was far off.
    return None if value is None else Decimal(f"{min(value, 9_999_999.0):.2f}")
