"""Balances and holds in memory, moved by the rules that move those of the books."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from budget_bus.consumers.weighing import Weighed, spent_on
from budget_bus.insight.replay.costs import Used
from budget_bus.policy.budget import Balance, Budget
from budget_bus.policy.decide import Line
from budget_bus.policy.holds import Hold, HoldState, Part, is_hard, left_unconfirmed, take
from budget_bus.policy.rollover import carried, hands_on
from budget_bus.policy.scope import Call
from budget_bus.policy.windows import Period, Window
from budget_bus.store.catalogue import Catalogue, Place, place_of
from budget_bus.store.holds import LETTERS


@dataclass(slots=True)
class Account:
    """One window of a budget."""

    budget: Budget
    window: Window
    balance: Balance


@dataclass(slots=True)
class Accounts:
    """All windows that were touched, under numbers of their own, and the holds on them."""

    catalogue: Catalogue
    all: list[Account] = field(default_factory=list)
    holds: dict[UUID, Hold] = field(default_factory=dict)
    moved: set[int] = field(default_factory=set)  # since somebody looked
    _ids: dict[Place, int] = field(default_factory=dict)
    _of_budget: dict[UUID, list[int]] = field(default_factory=dict)

    def open(self, budget: Budget, window: Window, balance: Balance) -> int:
        """Begin an account with what is known of it; its number."""
        number = self._ids[place_of(budget, window)] = len(self.all)
        self.all.append(Account(budget, window, balance))
        self._of_budget.setdefault(budget.budget_id, []).append(number)
        return number

    def number(self, budget: Budget, window: Window) -> int:
        """The account of a window; one that nobody has used before is born with what earlier ones hand on."""
        found = self._ids.get(place_of(budget, window))
        return self._bear(budget, window) if found is None else found

    def _bear(self, budget: Budget, window: Window) -> int:
        if budget.rollover_since is None:
            return self.open(budget, window, Balance())
        earlier = [i for i in self._of_budget.get(budget.budget_id, ()) if self.all[i].window.start < window.start]
        number = self.open(budget, window, Balance())
        if not earlier:
            return number
        before = self.all[max(earlier, key=lambda i: self.all[i].window.start)]
        if hands_on(budget, before.window, window.start):
            out, into = carried(budget, before.window, before.balance, window)
            before.balance = replace(before.balance, carried_out=before.balance.carried_out + out)
            self.all[number].balance = Balance(carried_in=into)
        return number

    def balance(self, budget: Budget, window: Window) -> Balance:
        return self.all[self.number(budget, window)].balance

    def know(self, call: Call, at: datetime) -> None:
        """Begin the windows of *call*'s context that are missing, as its first call does."""
        if not self.catalogue.has_contexts:
            return
        for budget in self.catalogue.matching(call):
            if budget.spec.period is Period.PER_CONTEXT and self.catalogue.context_window(budget, at, call) is None:
                windows = self.catalogue.contexts.setdefault((budget.budget_id, call.context_id or ""), [])
                ends = [w.start for w in windows if w.start > at] + [
                    at + timedelta(seconds=budget.spec.context_ttl_s or 0)
                ]
                windows.append(Window(at, min(ends), call.context_id or ""))

    def place(self, request_id: UUID, weighed: Weighed, call: Call, at: datetime, *, lease: bool) -> None:
        """Set aside what was decided."""
        numbers = [self.number(line.budget, line.window) for line in weighed.lines]
        amounts = [line.amount or 0 for line in weighed.lines]
        self.holds[request_id] = Hold(
            request_id=request_id, state=HoldState.OPEN, decided_at=at, cost_nanos=weighed.estimate.cost,
            tokens=weighed.estimate.tokens, balance_ids=tuple(numbers), amounts=tuple(amounts),
            component=call.component, lease=lease, calls=weighed.calls, units=_units(weighed.lines) if lease else "",
        )  # fmt: skip
        for number, amount in zip(numbers, amounts, strict=True):
            self._move(number, held=amount)

    def spend(self, used: Used, at: datetime) -> None:
        """Charge what an event used to the windows of *at*."""
        for budget in self.catalogue.matching(used.call):
            window = self.catalogue.window(budget, at, used.call)
            amount = spent_on(
                self.catalogue, budget, tokens=used.tokens.total, cost=used.cost, currency=used.currency, at=at
            )
            self._move(self.number(budget, window), spent=amount)

    def settle(self, request_id: UUID, part: Part) -> Hold | None:
        """Take off what an event settles: *part* of a lease, all of another hold; the hold, if it is there."""
        hold = self.holds.get(request_id)
        if hold is None:
            return None
        if hold.lease:
            self._take(hold, part)
        else:
            self.close(request_id)
        return hold

    def give_back(self, request_id: UUID, part: Part) -> None:
        """Take *part* off a lease."""
        hold = self.holds.get(request_id)
        if hold is not None:
            self._take(hold, part)

    def close(self, request_id: UUID) -> None:
        """End a hold without usage."""
        hold = self.holds.pop(request_id, None)
        for number, amount in zip(hold.balance_ids, hold.amounts, strict=True) if hold else ():
            self._take_off(hold, number, amount)

    def expire(self, request_id: UUID) -> None:
        """Let a hold end: on hard budgets its amount stays charged."""
        hold = self.holds.get(request_id)
        if hold is None or hold.state is not HoldState.OPEN:
            return
        self.close(request_id)
        hard = {i for i in hold.balance_ids if is_hard(a := self.all[i].budget, self.catalogue.policy_of(a))}
        left = left_unconfirmed(hold, hard)
        if left is None:
            return
        self.holds[request_id] = replace(left, state=HoldState.UNCONFIRMED)
        for number, amount in zip(left.balance_ids, left.amounts, strict=True):
            self._move(number, unconfirmed=amount)

    def _take(self, lease: Hold, part: Part) -> None:
        rest, off = take(lease, part)
        for number, amount in off.items():
            self._take_off(lease, number, amount)
        if rest.calls:
            self.holds[lease.request_id] = rest
        else:
            self.holds.pop(lease.request_id)

    def _take_off(self, hold: Hold | None, number: int, amount: int) -> None:
        if hold is not None and hold.state is HoldState.UNCONFIRMED:
            self._move(number, unconfirmed=-amount)
        else:
            self._move(number, held=-amount)

    def _move(self, number: int, *, spent: int = 0, held: int = 0, unconfirmed: int = 0) -> None:
        account = self.all[number]
        account.balance = account.balance.moved(spent=spent, held=held, unconfirmed=unconfirmed)
        self.moved.add(number)


def _units(lines: Sequence[Line]) -> str:
    return "".join(LETTERS[line.budget.spec.unit] for line in lines)
