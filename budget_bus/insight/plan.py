"""How much one component may plan to spend of a budget, given what all others are forecast to spend of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from budget_bus.insight.path import Path
from budget_bus.policy.budget import Balance, Budget
from budget_bus.policy.windows import Period, Window

_INSTANT = timedelta(microseconds=1)


class Asked(NamedTuple):
    """Whose plan it is: some fields of a call, all others are left open."""

    fields: Mapping[str, str]
    now: datetime
    until: datetime
    confidence: float


@dataclass(frozen=True, slots=True)
class Room:
    """
    What of a budget is left for one component until the plan's end, in the budget's unit.

    `available` is what may still be taken now, `others` what is kept for others in all `windows` that the plan reaches
    into. `backed` says whether the confidence is that of back-tests, of which there were `backtests`.
    """

    amount: int
    available: int
    others: int
    windows: int
    backed: bool
    backtests: int
    explanation: str


def open_fields(budget: Budget, asked: Asked) -> list[str] | None:
    """
    The fields that *budget*'s scope asks for and the question leaves open: what is planned may or may not be counted by
    it. None if it counts none of it.
    """
    scope, fields = budget.spec.scope, asked.fields
    if any(not rule.admits(fields[name]) for name, rule in scope.rules.items() if name in fields):
        return None
    missing = [name for name in scope.rules if name not in fields]
    if budget.spec.period is Period.PER_CONTEXT and "context_id" not in missing:
        missing.append("context_id")
    return [*missing, *(f"tags.{name}" for name in scope.tags)]


def is_alone(budget: Budget, component: str) -> bool:
    """Whether *component* is the only one that *budget* counts: there are no others."""
    rule = budget.spec.scope.rules.get("component")
    return rule is not None and not rule.negated and not rule.patterns and rule.names == {component}


def room(budget: Budget, window: Window, balance: Balance, others: Path | None, asked: Asked) -> Room:
    """
    What is left of *budget* for whoever asks, less what *others* will spend with the confidence that was asked for.

    When the plan reaches into later windows, their limits count, without what may be carried into them. Without a
    forecast everything that is spent counts as the others', at its present rate.
    """
    available = _lowest(budget, window, balance, asked) - balance.committed
    alone = is_alone(budget, asked.fields["component"])
    amount, kept, count = 0, 0, 0
    for one in _windows(budget, window, asked):
        limit = available if one is window else min(budget.limit_at(one.start), budget.limit_at(_last(one, asked)))
        theirs = 0 if alone else _theirs(window, balance, others, one, asked)
        # Others cannot take more than there is either; and what they take beyond is not taken from later windows.
        kept += min(theirs, max(0, limit))
        amount += max(0, limit - theirs)
        count += 1
    return Room(
        amount=amount,
        available=available,
        others=kept,
        windows=count,
        backed=alone or others is not None,
        backtests=others.origins if others is not None else 0,
        explanation=_explain(alone, others, asked.confidence),
    )


def _explain(alone: bool, others: Path | None, confidence: float) -> str:
    if alone:
        return "nobody else is counted by it"
    if others is None:
        return "no forecast with a band is there; all that is spent is kept for others, at its present rate"
    if not others.origins:
        return "nobody else has used it lately"
    if confidence > others.origins / (others.origins + 1):
        most = f"the most that the others spent in {others.origins} back-tests is kept for them"
        return f"{most}; more of them are needed for {confidence:.0%}"
    return f"in {confidence:.0%} of {others.origins} back-tests the others spent no more than is kept for them"


def _theirs(window: Window, balance: Balance, others: Path | None, one: Window, asked: Asked) -> int:
    since, until = max(one.start, asked.now), _last(one, asked) + _INSTANT
    if others is None:
        elapsed = asked.now - max(window.start, asked.now - timedelta(days=90))
        return balance.spent * ((until - since) // _INSTANT) // max(elapsed // _INSTANT, 1)
    before = others.between(asked.now, since, asked.confidence) if since > asked.now else 0
    return max(0, others.between(asked.now, until, asked.confidence) - before)


def _windows(budget: Budget, window: Window, asked: Asked) -> Iterator[Window]:
    yield window
    at = window.end
    while at is not None and at < asked.until:
        following = budget.window(at)
        yield following
        at = following.end


def _last(window: Window, asked: Asked) -> datetime:
    """The last instant of *window* that the plan is about."""
    return (asked.until if window.end is None else min(window.end, asked.until)) - _INSTANT


def _lowest(budget: Budget, window: Window, balance: Balance, asked: Asked) -> int:
    """The limit of the present window, or what is left of it after a raise that ends before the plan does."""
    return min(budget.limit_in(window, balance, moment) for moment in (asked.now, _last(window, asked)))
