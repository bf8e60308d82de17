"""May this call be made, and why: one verdict over all budgets that it belongs to, all or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from budget_bus.policy.budget import Balance, Budget, Policy, Unit
from budget_bus.policy.windows import Window


class Action(StrEnum):
    """The answer to a check."""

    ALLOW = "allow"
    WARN = "warn"
    DEGRADE = "degrade"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Line:
    """
    One budget as the decision sees it: its window, its balance now, and what the call would hold on it.

    `amount` is in the budget's unit; None means that the model is unpriced and the budget counts cost.
    """

    budget: Budget
    policy: Policy
    window: Window
    balance: Balance
    amount: int | None

    @property
    def would_exceed(self) -> bool:
        if self.amount is None:
            return True
        # What costs nothing fits even where everything is spent.
        return self.amount > 0 and self.balance.committed + self.amount > self.budget.spec.limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """`binding` is the index of the line that a denial names: of those that refuse, the one that frees up last."""

    action: Action
    reason: str | None = None
    binding: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        return self.action is not Action.DENY


_NEVER = datetime.max.replace(tzinfo=UTC)


def decide(lines: Sequence[Line]) -> Verdict:
    """
    Decide on holding each line's amount, on all of them or none.

    Held and unconfirmed money counts as spent, so two holds can never be granted that together pass a hard limit,
    whichever of them settles first. A limit of 0 means that nothing may be spent: a call that holds nothing
    (a free model) passes.
    """
    refusing = [i for i, line in enumerate(lines) if _refuses(line)]
    warnings = tuple(_words(line) for line in lines if line.would_exceed and line.policy is not Policy.IGNORE)
    if refusing:
        binding = frees_up_last(lines, refusing)
        return Verdict(Action.DENY, _reason(lines[binding]), binding, warnings)
    over = [line for line in lines if line.would_exceed and not line.budget.spec.shadow]
    if any(line.policy is Policy.SOFT_LIMIT for line in over):
        return Verdict(Action.DEGRADE, warnings=warnings)
    if any(line.policy is not Policy.IGNORE for line in over):
        return Verdict(Action.WARN, warnings=warnings)
    return Verdict(Action.ALLOW, warnings=warnings)


def _refuses(line: Line) -> bool:
    spec = line.budget.spec
    if spec.shadow or not line.would_exceed:
        return False
    if line.policy is Policy.HARD_LIMIT:
        return True
    if line.policy is Policy.SOFT_LIMIT and spec.ceiling_percent is not None:
        return line.amount is None or 100 * (line.balance.committed + line.amount) > spec.ceiling_percent * spec.limit
    return False


def frees_up_last(lines: Sequence[Line], candidates: Sequence[int]) -> int:
    """Of the lines at *candidates*, the one whose window ends last: waiting for the others would not help."""
    return max(candidates, key=lambda i: _frees_at(lines[i].window))


def _frees_at(window: Window) -> datetime:
    return window.end or _NEVER


def _reason(line: Line) -> str:
    if line.amount is None:
        return f"unpriced: the model has no price, and budget {line.budget.spec.name!r} counts cost"
    return _words(line)


def _words(line: Line) -> str:
    budget, balance = line.budget, line.balance
    spec = budget.spec
    unit = f" {spec.currency}" if spec.unit is Unit.COST else f" {spec.unit}"
    needs = "a call of unknown cost" if line.amount is None else f"the call needs {budget.write(line.amount)}{unit}"
    left = budget.write(max(0, spec.limit - balance.committed))
    shadow = " (shadow: not enforced)" if spec.shadow else ""
    return (
        f"budget {spec.name!r} ({spec.period}) would be exceeded{shadow}: {needs}, {left} of "
        f"{budget.write(spec.limit)}{unit} is left"
    )
