"""A lease as the decider grants it: many calls in one hold, and the rates by which its lessee bounds each."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from budget_bus.consumers.estimates import Estimate, Estimator
from budget_bus.events.checks import CheckRequested, LeaseGranted
from budget_bus.money import Nanos, format_nanos
from budget_bus.policy.pricing import Rates, dearest_rates


def of_calls(estimate: Estimate, calls: int) -> Estimate:
    """The estimate for *calls* calls like one."""
    cost = None if estimate.cost is None else Nanos(estimate.cost * calls)
    return replace(estimate, tokens=estimate.tokens * calls, cost=cost)


def lease_granted(
    estimator: Estimator, asked: CheckRequested, provider: str, estimate: Estimate, *, calls: int, at: datetime
) -> LeaseGranted:
    """What a lease of *calls*, with the *estimate* for all of them, has set aside."""
    find = estimator.prices.price_or_fallback if estimator.use_fallback_price else estimator.prices.price
    price = find(provider, asked.model, at, asked.service_tier)
    rates = dearest_rates(price) if price else Rates(0, 0, 0)
    return LeaseGranted(
        calls=calls,
        tokens=estimate.tokens,
        cost=None if estimate.cost is None else format_nanos(estimate.cost),
        input_picos=rates.input,
        output_picos=rates.output,
        request_picos=rates.request,
    )
