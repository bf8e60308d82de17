"""A verdict -> the check.response that explains it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from budget_bus.consumers.estimates import Estimate
from budget_bus.events.checks import BudgetLine, CheckRequested, CheckResponse, HoldPlaced
from budget_bus.money import format_nanos
from budget_bus.policy.decide import Action, Line, Verdict


def answer(
    asked: CheckRequested,
    estimate: Estimate,
    lines: Sequence[Line],
    verdict: Verdict,
    *,
    tier: str,
    expires_at: datetime | None,
    stale: bool,
    now: datetime,
) -> CheckResponse:
    """
    Explain *verdict*. *expires_at* is the end of the hold that was placed, None if none was.

    The balances are those after the decision.
    """
    binding = lines[verdict.binding] if verdict.binding is not None else None
    cost = None if estimate.cost is None else format_nanos(estimate.cost)
    response = CheckResponse(
        request_id=asked.request_id,
        allowed=verdict.allowed,
        action=verdict.action.value,
        reason=verdict.reason,
        warnings=list(verdict.warnings),
        estimated_tokens=estimate.tokens,
        estimated_cost=cost,
        currency=estimate.currency,
        price_status=estimate.price_status.value,
        estimate_source=estimate.source,
        hold=HoldPlaced(amount=cost, expires_at=expires_at) if expires_at else None,
        budgets=[_line(line, binding=line is binding, held=expires_at is not None) for line in lines],
        binding_budget=binding.budget.budget_id if binding else None,
        passed_budgets=[lines[i].budget.budget_id for i in verdict.passed],
        stale=stale,
        decided_at=now,
        tier=tier,
    )
    if verdict.allowed:
        return response
    return response.model_copy(update=_denied(binding, now) if binding else _frees_up(verdict.until, now))


def undecided(asked: CheckRequested, reason: str, *, tier: str, now: datetime) -> CheckResponse:
    """
    The answer to a question that came too late to be decided: nothing is placed and nothing remembered.

    *reason* is `expired` (read after its deadline) or `released` (the asker has given it up already).
    """
    return CheckResponse(
        request_id=asked.request_id,
        allowed=False,
        action=Action.DENY.value,
        reason=reason,
        estimated_tokens=0,
        estimated_cost=None,
        currency="USD",
        price_status="unpriced",
        estimate_source="none",
        decided_at=now,
        tier=tier,
    )


def _frees_up(end: datetime | None, now: datetime) -> dict[str, Any]:
    retry_after_s = None if end is None else max(1, -((now - end) // timedelta(seconds=1)))
    return {"resets_at": end, "retry_after_s": retry_after_s}


def _denied(binding: Line, now: datetime) -> dict[str, Any]:
    """When it frees up, and the platform's old keys."""
    budget = binding.budget
    return {
        **_frees_up(binding.window.end, now),
        "policy_type": binding.policy.value.lower(),
        "limit": budget.write(binding.limit),
        "usage": budget.write(binding.balance.committed),
        "estimated_additional": None if binding.amount is None else budget.write(binding.amount),
        "period": budget.spec.period.value,
    }


def _line(line: Line, *, binding: bool, held: bool) -> BudgetLine:
    budget, spec, balance = line.budget, line.budget.spec, line.balance
    added = (line.amount or 0) if held else 0
    return BudgetLine(
        budget_id=budget.budget_id,
        name=spec.name,
        scope=spec.scope.to_json(),
        period=spec.period.value,
        unit=spec.unit.value,
        currency=spec.currency,
        policy=line.policy.value,
        limit=budget.write(line.limit),
        spent=budget.write(balance.spent),
        held=budget.write(balance.held + added),
        unconfirmed=budget.write(balance.unconfirmed),
        available=budget.write(line.left - added),
        window_start=line.window.start,
        window_end=line.window.end,
        would_exceed=line.would_exceed,
        binding=binding,
        shadow=spec.shadow,
    )
