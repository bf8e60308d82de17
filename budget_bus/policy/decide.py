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

    `amount` is in the budget's unit; None means that the model is unpriced and the budget counts cost. `limit` is the
    one that holds now, with what is raised and carried over.
    """

    budget: Budget
    policy: Policy
    window: Window
    balance: Balance
    amount: int | None
    limit: int

    @property
    def left(self) -> int:
        """What may still be taken; below zero when a limit was lowered or usage was not asked for."""
        return self.limit - self.balance.committed

    @property
    def enforced(self) -> bool:
        """Whether passing the limit changes what is decided."""
        return not self.budget.spec.shadow and self.policy is not Policy.IGNORE

    @property
    def would_exceed(self) -> bool:
        if self.amount is None:
            return True
        # What costs nothing fits even where everything is spent.
        return self.amount > 0 and self.amount > self.left


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    `binding` is the index of the line that a denial names: of those that refuse, the one that frees up last.
    `passed` are the lines that would have refused, had the call not been critical. `until` is when a pause ends, where
    that is what denies.
    """

    action: Action
    reason: str | None = None
    binding: int | None = None
    warnings: tuple[str, ...] = ()
    passed: tuple[int, ...] = ()
    until: datetime | None = None

    @property
    def allowed(self) -> bool:
        return self.action is not Action.DENY


_NEVER = datetime.max.replace(tzinfo=UTC)


def decide(lines: Sequence[Line], *, critical: bool = False) -> Verdict:
    """
    Decide on holding each line's amount, on all of them or none. A *critical* call passes budgets that allow it.

    Held and unconfirmed money counts as spent, so two holds can never be granted that together pass a hard limit,
    whichever of them settles first. A limit of 0 means that nothing may be spent: a call that holds nothing
    (a free model) passes.
    """
    full = [i for i, line in enumerate(lines) if _refuses(line)]
    passed = tuple(i for i in full if critical and lines[i].budget.spec.critical_may_pass)
    refusing = [i for i in full if i not in passed]
    warnings = tuple(_words(line) for line in lines if line.would_exceed and line.policy is not Policy.IGNORE)
    if refusing:
        binding = frees_up_last(lines, refusing)
        return Verdict(Action.DENY, _reason(lines[binding]) + _ceiling(lines[binding]), binding, warnings)
    over = [i for i, line in enumerate(lines) if line.would_exceed and line.enforced]
    soft = [i for i in over if lines[i].policy is Policy.SOFT_LIMIT and i not in passed]
    if soft:
        reason = _reason(lines[frees_up_last(lines, soft)])
        return Verdict(Action.DEGRADE, reason, warnings=warnings, passed=passed)
    if passed:
        reason = f"critical: {_reason(lines[frees_up_last(lines, passed)])}"
        return Verdict(Action.WARN, reason, warnings=warnings, passed=passed)
    return Verdict(Action.WARN if over else Action.ALLOW, warnings=warnings)


def _refuses(line: Line) -> bool:
    spec = line.budget.spec
    if spec.shadow or not line.would_exceed:
        return False
    if line.policy is Policy.HARD_LIMIT:
        return True
    if line.policy is Policy.SOFT_LIMIT and spec.ceiling_percent is not None:
        return line.amount is None or 100 * (line.balance.committed + line.amount) > spec.ceiling_percent * line.limit
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


def _ceiling(line: Line) -> str:
    return f"; its ceiling is {line.budget.spec.ceiling_percent} %" if line.policy is Policy.SOFT_LIMIT else ""


def _words(line: Line) -> str:
    budget = line.budget
    spec = budget.spec
    unit = f" {spec.currency}" if spec.unit is Unit.COST else f" {spec.unit}"
    needs = "a call of unknown cost" if line.amount is None else f"the call needs {budget.write(line.amount)}{unit}"
    left = budget.write(max(0, line.left))
    shadow = " (shadow: not enforced)" if spec.shadow else ""
    whose = f", context {line.window.context_id!r}" if line.window.context_id else ""
    return (
        f"budget {spec.name!r} ({spec.period}{whose}) would be exceeded{shadow}: {needs}, {left} of "
        f"{budget.write(line.limit)}{unit} is left"
    )
