"""What budgets will come to: the stored forecast as it is now, or the straight line where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel

from budget_bus.http.budgets import BudgetView, views
from budget_bus.http.parts import Reading
from budget_bus.insight.path import HIGH, LOW, Path
from budget_bus.policy.budget import Budget
from budget_bus.policy.run_rate import run_rate
from budget_bus.policy.windows import Window
from budget_bus.store import forecasts, windows
from budget_bus.store.forecasts import Stored
from budget_bus.store.windows import Taken

STALE = 3  # intervals after which a forecast is of another time: its bookkeeper is away


class ForecastView(BaseModel):
    """
    What will be spent at the window's end, in the budget's unit; nine of ten back-tests ended between `low` and `high`.

    `method` is the one that had the smallest error in the back-tests: `ets_daily` and `ets_weekly` are exponential
    smoothing with the seasons of a day or of a week, `run_rate` extends the window's average until now, `rolling_rate`
    that of as long a time as the window before now. `combined` is the mean of those that the back-tests cannot tell
    apart from the best, weighted by their errors. `backtest_error_percent` is the mean absolute percentage error of
    `expected` in these, and `run_rate_error_percent` that of the straight line. Without enough history it is the
    straight line alone: the band and the errors are null, and `reason` says why.
    """

    expected: str
    low: str | None
    high: str | None
    method: Literal["run_rate", "ets_daily", "ets_weekly", "rolling_rate", "combined"]
    backtest_error_percent: str | None
    run_rate_error_percent: str | None = None
    backtests: int = 0
    made_at: datetime | None = None
    reason: str | None = None


class Between(BaseModel):
    """When the limit is reached in nine of ten back-tests; `latest` null: it may also last until the window's end."""

    earliest: datetime
    latest: datetime | None


class ReportedBudget(BudgetView):
    """
    A budget in its present window, and what that will come to; null while too little is known of it.

    `runs_out_at` is when what is spent or set aside is expected to reach the limit; null if the window ends before.
    """

    forecast: ForecastView | None
    runs_out_at: datetime | None
    runs_out_between: Between | None


async def reported(parts: Reading, budgets: Sequence[Budget], now: datetime) -> list[ReportedBudget]:
    """*budgets* with their balances and what they will come to, in their order."""
    shown = await views(parts, budgets)
    taken = await windows.current(parts.pool, budgets, now)
    stored = await forecasts.read(parts.pool, [budget.budget_id for budget in budgets])
    oldest = now - STALE * timedelta(seconds=parts.settings.forecast_interval)
    return [
        ReportedBudget(
            **view.model_dump(), **outlook(budget, *one, stored.get(budget.budget_id), oldest=oldest, now=now)
        )
        for view, budget, one in zip(shown, budgets, taken, strict=True)
    ]


def outlook(
    budget: Budget, window: Window | None, balance: Any, stored: Stored | None, *, oldest: datetime, now: datetime
) -> dict[str, Any]:
    """The fields of ReportedBudget that are about the future; *stored* counts if it was made since *oldest*."""
    if window is None:
        return {"forecast": None, "runs_out_at": None, "runs_out_between": None}
    path = path_of(stored, window, oldest=oldest)
    if stored is None or path is None:
        return _straight(budget, Taken(window, balance), stored, now)
    left = budget.limit_in(window, balance, now) - balance.committed
    until = window.end or path.end
    expected, earliest, latest = (path.reaches(left, now, until, level) for level in (None, HIGH, LOW))
    view = None
    if window.end is not None:
        # What is spent already is known; only the rest is forecast. So it is never less than what is spent.
        ends = [budget.write(balance.spent + path.between(now, window.end, level)) for level in (None, LOW, HIGH)]
        errors = (None if error is None else str(error) for error in (stored.error_percent, stored.run_rate_percent))
        view = _view(ends, stored, tuple(errors), path.origins)
    between = Between(earliest=earliest, latest=latest) if earliest is not None else None
    return {"forecast": view, "runs_out_at": expected, "runs_out_between": between}


def path_of(stored: Stored | None, window: Window, *, oldest: datetime) -> Path | None:
    """What is still to be spent, if it was worked out for *window* since *oldest*."""
    if stored is None or stored.path is None or stored.window_start != window.start or stored.made_at < oldest:
        return None
    return Path.from_json(dict(stored.path))


def _view(ends: Sequence[str], stored: Stored, errors: Sequence[str | None], backtests: int) -> ForecastView:
    return ForecastView(
        expected=ends[0],
        low=ends[1],
        high=ends[2],
        method=stored.method,  # type: ignore[arg-type]  # pydantic checks it
        backtest_error_percent=errors[0],
        run_rate_error_percent=errors[1],
        backtests=backtests,
        made_at=stored.made_at,
    )


def _straight(budget: Budget, taken: Taken, stored: Stored | None, now: datetime) -> dict[str, Any]:
    window, balance = taken
    assert window is not None  # noqa: S101 - asked before
    limit = budget.limit_in(window, balance, now)
    found = run_rate(window, now=now, spent=balance.spent, committed=balance.committed, limit=limit)
    if found is None:
        return {"forecast": None, "runs_out_at": None, "runs_out_between": None}
    view = ForecastView(
        expected=budget.write(found.expected),
        low=None,
        high=None,
        method="run_rate",
        backtest_error_percent=None,
        reason=_why(stored, window),
    )
    return {"forecast": view, "runs_out_at": found.runs_out_at, "runs_out_between": None}


def _why(stored: Stored | None, window: Window) -> str:
    if window.context_id:
        return "a context's window is its own: there are none before it"
    if stored is not None and stored.reason and stored.window_start == window.start:
        return stored.reason
    return "no forecast was made lately: a bookkeeper makes one every BUDGET_FORECAST_INTERVAL seconds"
