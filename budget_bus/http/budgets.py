"""Budgets with the balances of their current windows, as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from budget_bus.errors import NotFound
from budget_bus.http.parts import Call, Parts, Reading
from budget_bus.policy.budget import Balance, Budget, Policy
from budget_bus.policy.exchange import NO_RATES, ExchangeRates, utc_day
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.policy.windows import Window
from budget_bus.store import exchange, reads, windows
from budget_bus.store.limits import percent_text


class RaiseView(BaseModel):
    """What a limit is raised by from `starts_at` until before `ends_at`."""

    raise_id: UUID
    amount: str
    starts_at: datetime
    ends_at: datetime
    reason: str | None


class ExchangeRateView(BaseModel):
    """What one unit of the currency of prices is today, by the rate of the day `published`; `stale` if that is old."""

    source_currency: str
    rate: str
    published: date
    stale: bool


class BudgetView(BaseModel):
    """
    One budget and its balance in the window that is current at `as_of`. Amounts are strings in the budget's unit.

    `policy` is the one in force; `policy_source` says whether the limit names it or follows the default. `limit` is
    what holds in this window: with the raises in force (`raised` in sum), with what was carried in from the windows
    before and without what was carried out. `available` is `limit - spent - held - unconfirmed`. `exchange_rate` is
    today's of a budget in another currency than prices are in; past days keep theirs.

    A per_context budget shows the running context that has taken the largest share of its limit. While there is none,
    `context_id`, `window_start` and `window_end` are null.
    """

    budget_id: UUID
    name: str
    scope: dict[str, Any]
    period: str
    unit: str
    currency: str | None
    policy: str
    policy_source: Literal["limit", "default"]
    ceiling_percent: int | None
    thresholds: list[int]
    alert_on: list[str]
    timezone: str
    week_start: int
    month_anchor: int
    shadow: bool
    critical_may_pass: bool
    parent: UUID | None
    percent: str | None
    rollover_cap: str | None
    ttl_s: int | None
    limit_version: int
    limit: str
    spent: str
    held: str
    unconfirmed: str
    available: str
    carried_in: str
    carried_out: str
    raised: str
    raises: list[RaiseView]
    context_id: str | None
    window_start: datetime | None
    window_end: datetime | None
    exchange_rate: ExchangeRateView | None = None
    as_of: datetime


async def views(parts: Reading, budgets: Sequence[Budget]) -> list[BudgetView]:
    """*budgets* with their balances, in their order."""
    now = parts.now()
    found = await windows.current(parts.pool, budgets, now)
    default = await reads.default_policy(parts.pool, Policy(parts.settings.enforcement_level))
    foreign = any(budget.spec.currency not in (None, PRICE_CURRENCY) for budget in budgets)
    rates = await exchange.on_day(parts.pool, utc_day(now)) if foreign else NO_RATES
    return [
        BudgetView(
            **_terms(budget, default, now), **_balance(budget, *taken, now), exchange_rate=_rate(budget, rates, now)
        )
        for budget, taken in zip(budgets, found, strict=True)
    ]


async def view(parts: Parts, budget: Budget) -> BudgetView:
    """One budget with its balance."""
    (shown,) = await views(parts, [budget])
    return shown


def _rate(budget: Budget, rates: ExchangeRates, now: datetime) -> ExchangeRateView | None:
    currency, day = budget.spec.currency, utc_day(now)
    quote = rates.quote(PRICE_CURRENCY, currency, day) if currency not in (None, PRICE_CURRENCY) else None
    if quote is None:
        return None
    # To show; what is counted is the quotient of integers.
    rate = Decimal(quote.rate.numerator) / quote.rate.denominator
    return ExchangeRateView(
        source_currency=PRICE_CURRENCY, rate=f"{rate:.6g}", published=quote.published, stale=quote.is_stale(day)
    )


def budget_id_of(call: Call[Any, Any]) -> UUID:
    """
    The budget that a path names.

    Raises:
        NotFound: what stands there is no id.
    """
    text = call.path["budget_id"]
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"no budget {text!r}; a budget_id is a UUID, as GET /api/limits lists it") from None


def concerns(budget: Budget, filters: Mapping[str, Sequence[str]]) -> bool:
    """Whether the scope of *budget* does not contradict *filters*, the allowed values of some of its fields."""
    rules = budget.spec.scope.rules
    return all(
        any(rules[name].admits(value) for value in values)
        for name, values in filters.items()
        if values and name in rules
    )


def amounts(budget: Budget, balance: Balance, limit: int) -> dict[str, str]:
    """What one window has taken and may still take."""
    return {
        "limit": budget.write(limit),
        "spent": budget.write(balance.spent),
        "held": budget.write(balance.held),
        "unconfirmed": budget.write(balance.unconfirmed),
        "available": budget.write(limit - balance.committed),
        "carried_in": budget.write(balance.carried_in),
        "carried_out": budget.write(balance.carried_out),
    }


def _terms(budget: Budget, default: Policy, now: datetime) -> dict[str, Any]:
    spec = budget.spec
    running = sum(one.amount for one in budget.raises if one.starts_at <= now < one.ends_at)
    return {
        "budget_id": budget.budget_id,
        "name": spec.name,
        "scope": spec.scope.to_json(),
        "period": spec.period.value,
        "unit": spec.unit.value,
        "currency": spec.currency,
        "policy": (spec.policy or default).value,
        "policy_source": "limit" if spec.policy else "default",
        "ceiling_percent": spec.ceiling_percent,
        "thresholds": list(spec.thresholds),
        "alert_on": [basis.value for basis in spec.alert_on],
        "timezone": spec.timezone,
        "week_start": spec.week_start,
        "month_anchor": spec.month_anchor,
        "shadow": spec.shadow,
        "critical_may_pass": spec.critical_may_pass,
        "parent": spec.parent_id,
        "percent": percent_text(spec.percent),
        "rollover_cap": None if spec.rollover_cap is None else budget.write(spec.rollover_cap),
        "ttl_s": spec.context_ttl_s,
        "limit_version": budget.limit_version,
        "raised": budget.write(running),
        "raises": [
            RaiseView(
                raise_id=one.raise_id,
                amount=budget.write(one.amount),
                starts_at=one.starts_at,
                ends_at=one.ends_at,
                reason=one.reason,
            )
            for one in budget.raises
            if one.ends_at > now
        ],
    }


def _balance(budget: Budget, window: Window | None, balance: Balance, now: datetime) -> dict[str, Any]:
    limit = budget.limit_in(window, balance, now) if window else budget.limit_at(now)
    return {
        **amounts(budget, balance, limit),
        "context_id": (window.context_id or None) if window else None,
        "window_start": window.start if window else None,
        "window_end": window.end if window else None,
        "as_of": now,
    }
