"""A stored decision as it can be decided again: what was asked, and what production answered."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from budget_bus.consumers.estimates import Estimate
from budget_bus.consumers.weighing import Weighed
from budget_bus.insight.replay.costs import Costing, no_price
from budget_bus.money import format_nanos
from budget_bus.policy.decide import Action
from budget_bus.policy.pricing import PriceStatus, Without, upper_bound
from budget_bus.policy.scope import Call

# Denials that no balance explains; they are taken over as they were.
_TAKEN_OVER = ("stale:", "paused:")


class Answered(NamedTuple):
    """What production decided. `budgets` are its balances after the decision, as they were written."""

    action: Action
    binding: UUID | None
    held: str | None
    calls: int
    reason: str | None
    budgets: tuple[tuple[str, ...], ...]

    @property
    def taken_over(self) -> bool:
        return self.action is Action.DENY and (self.reason or "").startswith(_TAKEN_OVER)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question; `estimate` is that of one call."""

    request_id: UUID
    at: datetime
    call: Call
    estimate: Estimate
    service_tier: str
    without: Without
    lease_calls: int | None
    critical: bool
    hold: bool
    answered: Answered


def asked_from(row: Any) -> Asked | None:
    """A row of decisions as a question; None if too little of it was kept: a denial of an earlier release."""
    answered = answered_from(row)
    said = row["asked"]
    if said is None:
        said = _of_hold(row, answered)
        if said is None:
            return None
    call = Call(
        row["component"], row["provider"], row["model"], said["tier"], said.get("task_type"), said.get("context_id"),
        said.get("user"), tuple(said.get("tags", {}).items()),
    )  # fmt: skip
    estimate = Estimate(
        said["tokens"], said.get("cost_nanos"), said["currency"], PriceStatus.PRICED, "as it was",
        said.get("input_tokens"), said.get("output_tokens"),
    )  # fmt: skip
    return Asked(
        row["request_id"], row["decided_at"], call, estimate, said.get("service_tier", "standard"),
        Without(*said.get("without", ())), said.get("lease_calls"), bool(said.get("critical")),
        not said.get("no_hold"), answered,
    )  # fmt: skip


def _of_hold(row: Any, answered: Answered) -> dict[str, Any] | None:
    # Of an earlier release: a hold says what was asked; what is left of a lease does not.
    if row["tier"] is None or row["lease"]:
        return None
    names = ("tier", "task_type", "context_id", "tokens", "cost_nanos", "currency", "tags")
    return {name: row[name] for name in names} | {"user": row["user_name"]}


def answered_from(row: Any) -> Answered:
    """What production answered."""
    said = json.loads(row["answer"])
    binding, hold, lease = said.get("binding_budget"), said.get("hold"), said.get("lease")
    return Answered(
        Action(row["action"]),
        UUID(binding) if binding else None,
        (hold["amount"] or "unpriced") if hold else None,
        lease["calls"] if lease else 1,
        said.get("reason"),
        tuple(tuple(line[name] for name in _SHOWN) for line in said.get("budgets", ())),
    )


_SHOWN = ("budget_id", "limit", "spent", "held", "unconfirmed")


def answered_again(asked: Asked, weighed: Weighed) -> Answered:
    """The answer of a replay, written as production's."""
    verdict, cost = weighed.verdict, weighed.estimate.cost
    held = verdict.allowed and asked.hold
    binding = weighed.lines[verdict.binding].budget.budget_id if verdict.binding is not None else None
    budgets = []
    for line in weighed.lines:
        write, balance = line.budget.write, line.balance
        on_it = balance.held + ((line.amount or 0) if held else 0)
        amounts = (line.limit, balance.spent, on_it, balance.unconfirmed)
        budgets.append((str(line.budget.budget_id), *map(write, amounts)))
    return Answered(
        verdict.action, binding, ("unpriced" if cost is None else format_nanos(cost)) if held else None,
        weighed.calls if held and asked.lease_calls else 1, verdict.reason, tuple(budgets),
    )  # fmt: skip


def as_proposed(asked: Asked, costing: Costing) -> Asked:
    """
    *asked* as the proposal would have it: to another model, or at another price.

    Raises:
        Rejected: it would go to a model that has no price.
    """
    call, tier = costing.target(asked.call, asked.service_tier)
    price = costing.price(call, tier, asked.at)
    if (call, tier) == (asked.call, asked.service_tier) and not costing.proposes(call, tier, asked.at):
        return asked
    if price is None:
        raise no_price(call, asked.at)
    was = asked.estimate
    cost = upper_bound(
        price, input_tokens=was.input_tokens, output_tokens=was.output_tokens, total_tokens=was.tokens,
        without=asked.without,
    )  # fmt: skip
    estimate = replace(was, cost=cost, currency=price.currency)
    return replace(asked, call=call, service_tier=tier, estimate=estimate)
