"""Decides and books the past again, item by item, in the order in which the books had it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from budget_bus.bookkeeping.restating import tokens_of
from budget_bus.consumers.estimates import Estimate
from budget_bus.consumers.weighing import Weighed, weigh
from budget_bus.insight.replay.accounts import Accounts
from budget_bus.insight.replay.asked import Asked, answered_again, as_proposed, asked_from
from budget_bus.insight.replay.costs import Costing, Used
from budget_bus.insight.replay.outcome import BudgetOutcome, Outcome, Refusal
from budget_bus.money import Nanos
from budget_bus.policy.decide import Action
from budget_bus.policy.holds import Part
from budget_bus.policy.pricing import PRICE_CURRENCY, PriceStatus, Tokens
from budget_bus.policy.windows import Window
from budget_bus.store.holds import call_of
from budget_bus.store.replays import Span

_DIFFERENCES = 20
# Phases of ledger rows, see queries/replays.sql. Those booked before are counted but move nothing: the begin has them.
BOOKED_BEFORE, IN_ORDER = -1, 1


@dataclass(slots=True)
class Engine:
    """Applies items to *accounts*; what it finds is in *outcome*."""

    span: Span
    accounts: Accounts
    costing: Costing
    outcome: Outcome
    _refused: dict[UUID, UUID | None] = field(default_factory=dict)  # request -> the budget that refused it
    _settled: set[UUID] = field(default_factory=set)  # by usage that came before its check

    def apply(self, items: Iterable[tuple[str, Any]]) -> None:
        """Apply items: each a kind of stream and a row of it."""
        for kind, row in items:
            if kind == "decision":
                self._decision(row)
            elif kind == "event":
                self._event(row)
            else:
                self._movement(row)

    def _in_range(self, at: datetime) -> bool:
        return self.span.start <= at < self.span.end

    def _decision(self, row: Any) -> None:
        asked, counts = asked_from(row), self._in_range(row["decided_at"])
        if asked is None:
            self.outcome.checks.not_replayable += counts
            return
        asked = as_proposed(asked, self.costing)
        if asked.answered.taken_over:
            self._taken_over(asked, counts=counts)
            return
        self.accounts.know(asked.call, asked.at)
        weighed = weigh(
            self.accounts.catalogue, asked.call, asked.estimate, asked.at, self.accounts.balance,
            lease_calls=asked.lease_calls, critical=asked.critical,
        )  # fmt: skip
        if counts:
            self._compare(asked, weighed)
        if not weighed.verdict.allowed:
            self._deny(asked, weighed, counts=counts)
        elif asked.answered.action is Action.DENY:
            self._assume(asked, weighed, counts=counts)
        elif asked.hold and asked.request_id not in self._settled:
            lease = asked.lease_calls is not None
            self.accounts.place(asked.request_id, weighed, asked.call, asked.at, lease=lease)
        self._look(asked.at)

    def _taken_over(self, asked: Asked, *, counts: bool) -> None:
        checks = self.outcome.checks
        checks.decided += counts
        checks.taken_over += counts
        checks.denied_as_before += counts

    def _compare(self, asked: Asked, weighed: Weighed) -> None:
        checks, was, now = self.outcome.checks, asked.answered, answered_again(asked, weighed)
        checks.decided += 1
        same = was[:4] == now[:4]
        checks.identical += same
        checks.same_balances += same and was.budgets == now.budgets
        if was.action is Action.DENY:
            checks.denied_as_before += now.action is Action.DENY
            checks.allowed += now.action is not Action.DENY
        else:
            checks.refused += now.action is Action.DENY
        if not same and len(self.outcome.differences) < _DIFFERENCES:
            was_held, now_held = was.held or "nothing", now.held or "nothing"
            self.outcome.differences.append(
                f"{asked.at.isoformat()} {asked.request_id}: {was.action} holding {was_held}, now {now.action} holding "
                f"{now_held}{f': {now.reason}' if now.reason else ''}"
            )

    def _deny(self, asked: Asked, weighed: Weighed, *, counts: bool) -> None:
        if asked.answered.action is Action.DENY:
            return
        line = weighed.lines[weighed.verdict.binding] if weighed.verdict.binding is not None else None
        budget_id = line.budget.budget_id if line else None
        self._refused[asked.request_id] = budget_id
        if counts:
            name, call = line.budget.spec.name if line else None, asked.call
            self.outcome.refuse(Refusal(asked.at, budget_id, name, call.component, call.model, weighed.verdict.reason))

    def _assume(self, asked: Asked, weighed: Weighed, *, counts: bool) -> None:
        # Nobody knows what a call that was never made would have used: all that was asked for.
        estimate = weighed.estimate
        tokens = Tokens(estimate.tokens, 0)
        if estimate.input_tokens is not None and estimate.output_tokens is not None:
            tokens = Tokens(estimate.input_tokens * weighed.calls, estimate.output_tokens * weighed.calls)
        used = Used(asked.call, asked.service_tier, asked.at, tokens, estimate.cost, estimate.currency)
        self.accounts.spend(used, asked.at)
        if counts:
            self.outcome.assume(used)

    def _event(self, row: Any) -> None:
        used = used_of(row)
        counts, request_id = self._in_range(used.at), row["request_id"]
        changed = self.costing.apply(used)
        if request_id is not None and request_id in self._refused:
            if counts:
                self._count_refused(used, self._refused[request_id])
            return
        unchecked = request_id is None and self.costing.proposal.ask_unchecked and row["phase"] != BOOKED_BEFORE
        if unchecked and not self._may(used, changed, counts=counts):
            return
        if counts:
            self.outcome.count(used, changed)
        if row["phase"] != BOOKED_BEFORE:
            self._book(row, changed)

    def _may(self, used: Used, changed: Used, *, counts: bool) -> bool:
        """Whether an event that was not asked for would have been allowed; counted if not."""
        self.accounts.know(changed.call, used.at)
        cost = None if changed.cost is None else Nanos(changed.cost)
        estimate = Estimate(changed.tokens.total, cost, changed.currency, PriceStatus.PRICED, "what it used")
        weighed = weigh(
            self.accounts.catalogue, changed.call, estimate, used.at, self.accounts.balance, lease_calls=None,
            critical=False,
        )  # fmt: skip
        if weighed.verdict.allowed:
            return True
        if counts:
            budget = weighed.lines[weighed.verdict.binding or 0].budget
            reason, call = weighed.verdict.reason, used.call
            self.outcome.refuse(
                Refusal(used.at, budget.budget_id, budget.spec.name, call.component, call.model, reason)
            )
            self._count_refused(used, budget.budget_id)
        return False

    def _count_refused(self, used: Used, budget_id: UUID | None) -> None:
        self.outcome.count(used, None)
        found = self.outcome.budgets.get(budget_id) if budget_id else None
        if found is not None and used.currency == PRICE_CURRENCY:
            found.refused_nanos += used.cost or 0

    def _book(self, row: Any, used: Used) -> None:
        request_id, at = row["request_id"], row["accounted_at"]
        if request_id is not None:
            hold = self.accounts.settle(request_id, Part(used.cost or 0, used.tokens.total, 1))
            if hold is None:
                self._settled.add(request_id)
        self.accounts.know(used.call, at)
        self.accounts.spend(used, at)
        self._look(used.at)

    def _movement(self, row: Any) -> None:
        kind = row["kind"]
        if kind == "voided":
            self.accounts.close(row["request_id"])
        elif kind == "expired":
            self.accounts.expire(row["request_id"])
        elif kind == "given_back":
            self.accounts.give_back(row["request_id"], Part(row["cost_nanos"], row["tokens"], row["calls"]))
        elif kind == "carried":
            self._carry(row)
        elif "restated" not in " ".join(self.outcome.warnings):
            self.outcome.warnings.append(
                "costs were restated in this range: what was decided before that is replayed with the costs of today"
            )

    def _carry(self, row: Any) -> None:
        budget = next((b for b in self.accounts.catalogue.budgets if b.budget_id == row["budget_id"]), None)
        if budget is None or row["window_start"] is None:
            return
        window = Window(row["window_start"], row["window_end"], row["context_id"])
        if budget.window(window.start) == window:
            self.accounts.number(budget, window)

    def _look(self, at: datetime) -> None:
        for number in self.accounts.moved:
            account = self.accounts.all[number]
            ended = account.window.end is not None and account.window.end <= self.span.start
            if not ended and account.window.start < self.span.end:
                found = self.outcome.budgets.get(account.budget.budget_id)
                if found is None:
                    found = self.outcome.budgets[account.budget.budget_id] = BudgetOutcome(account.budget)
                found.look(account.window, account.balance, at)
        self.accounts.moved.clear()


def used_of(row: Any) -> Used:
    """A row of the ledger as an event."""
    return Used(
        call_of(row), row["service_tier"], row["occurred_at"], tokens_of(row), row["cost_nanos"], row["currency"]
    )
