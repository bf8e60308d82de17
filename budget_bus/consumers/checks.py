"""check.requested -> decision, hold, check.response: the decider."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import structlog

from budget_bus import metrics
from budget_bus.consumers.answers import answer, undecided
from budget_bus.consumers.batch import Batch, Clock, utc_now
from budget_bus.consumers.dead_letters import bury
from budget_bus.consumers.estimates import Estimate, Estimator
from budget_bus.consumers.facts import CRITICAL_PASSED, Change, announce
from budget_bus.consumers.leases import lease_granted
from budget_bus.consumers.prices import refresh_prices
from budget_bus.consumers.questions import Question, Reply, asked_of, invalid, read_questions
from budget_bus.consumers.suggestions import Misfit
from budget_bus.consumers.weighing import amount_on, lines_of, weigh
from budget_bus.events.checks import Suggestions
from budget_bus.policy.budget import Balance, Budget, Policy
from budget_bus.policy.decide import Action, Line, Verdict, frees_up_last
from budget_bus.policy.exchange import utc_day
from budget_bus.policy.pause import decide_paused
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.policy.scope import Call
from budget_bus.policy.windows import Window
from budget_bus.store import balances, contexts, fence, holds
from budget_bus.store.catalogue import Catalogue, Place, place_of
from budget_bus.store.holds import Decided, Known, Placed

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that a decision follows."""

    hold_ttl_s: int
    stale_after_s: int
    deny_when_stale: bool


@dataclass(slots=True)
class Decider:
    """Answers checks. One per process; *send* takes a reply and returns at once."""

    pool: asyncpg.Pool
    catalogue: Catalogue
    estimator: Estimator
    rules: Rules
    send: Callable[[Reply], None]
    clock: Clock = utc_now

    async def apply(self, batch: Batch, refused: str | None) -> None:
        """
        Decide one batch in one transaction; the answers leave after its commit.

        A question that was decided before gets its stored answer, byte for byte; the same id with another question
        is told so; one read after its deadline is answered `expired`, places nothing and is not remembered.

        Raises:
            Fenced, Retryable, asyncpg errors: nothing was written, nothing was answered.
        """
        now = self.clock()
        questions, dead = read_questions(batch, refused)
        async with self.pool.acquire() as connection, connection.transaction():
            entry = await fence.enter(connection, batch.topic, batch.moves)
            await self.catalogue.refresh(connection, entry.catalogue_version)
            await refresh_prices(connection, self.estimator.prices, entry.catalogue_version)
            known = await holds.known_decisions(connection, [q.asked.request_id for q in questions])
            session = Session(self, now, self._is_stale(entry.usage_read_to, now), known)
            await bury(connection, batch.topic, dead, at=now)
            await session.decide_all(connection, questions)
        for reply in (*session.replies, *filter(None, map(invalid, dead))):
            self.send(reply)
        for action in session.actions:
            metrics.DECISIONS.labels(action).inc()
        for letter in dead:
            metrics.DEAD_LETTERS.labels(batch.topic, letter.label).inc()

    def _is_stale(self, read_to: datetime | None, now: datetime) -> bool:
        return read_to is None or now - read_to > timedelta(seconds=self.rules.stale_after_s)


@dataclass(slots=True)
class Session:
    """The decisions of one batch, in the order of the log."""

    decider: Decider
    now: datetime
    stale: bool
    known: dict[UUID, Known]
    locked_at: datetime = field(init=False)  # waiting for the locks counts against a question's deadline
    replies: list[Reply] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    _ids: dict[Place, int] = field(default_factory=dict)
    _current: dict[int, Balance] = field(default_factory=dict)
    _decided: list[Decided] = field(default_factory=list)
    _placed: list[Placed] = field(default_factory=list)
    _held: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    _notices: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    async def decide_all(self, connection: asyncpg.Connection, questions: Sequence[Question]) -> None:
        """Lock the balances of all that is new, decide one after the other, write everything in one statement."""
        catalogue, self.locked_at = self.decider.catalogue, self.now
        new = [q for q in questions if q.asked.request_id not in self.known and not self._is_late(q)]
        await contexts.resolve(connection, catalogue, [(question.call, self.now) for question in new])
        wanted: dict[Place, tuple[Budget, Window]] = {}
        for question in new:
            for budget in catalogue.matching(question.call):
                window = catalogue.window(budget, self.now, question.call)
                wanted[place_of(budget, window)] = (budget, window)
        self._ids, _ = await balances.ensure(connection, catalogue, wanted)
        # Nothing after this line waits for anything but the one statement that writes the decisions.
        self._current = await balances.lock(connection, self._ids.values()) if self._ids else {}
        self.locked_at = self.decider.clock()
        for question in questions:
            self._answer(question)
        if self._decided:
            await holds.place(connection, self._decided, self._placed, self._held)
        changes: dict[int, Change] = {
            self._ids[place]: (*where, self._current[self._ids[place]])
            for place, where in wanted.items()
            if self._held.get(self._ids[place])
        }
        if changes:
            await announce(connection, catalogue, changes, now=self.now, notices=self._notices)

    def _is_late(self, question: Question) -> bool:
        deadline = question.asked.deadline
        return deadline is not None and deadline < self.locked_at

    def _answer(self, question: Question) -> None:
        asked = question.asked
        stored = self.known.get(asked.request_id)
        if stored is not None:
            if stored.released:
                self._refuse(question, "released")
            elif stored.digest == question.digest:
                self.replies.append(question.reply(stored.answer.encode()))
            else:
                problem = b'{"detail":"request_id was used before for another question; use a new one"}'
                self.replies.append(question.reply(problem, error="conflict"))
            return
        if self._is_late(question):
            self._refuse(question, "expired")
            return
        self._decide(question)

    def _refuse(self, question: Question, reason: str) -> None:
        """Answer without deciding: nothing is placed and nothing remembered."""
        self.actions.append(reason)
        response = undecided(question.asked, reason, tier=question.call.tier, now=self.now)
        self.replies.append(question.reply(response.model_dump_json().encode()))

    def _decide(self, question: Question) -> None:
        asked = question.asked
        of_one = self.decider.estimator.estimate(asked, question.call.provider, at=self.now)
        paused = self._paused(question.call)
        weighed = weigh(
            self.decider.catalogue, question.call, of_one, self.now, self._balance,
            lease_calls=None if paused else asked.lease_calls, critical=asked.priority == "critical",
            overruled=lambda lines: paused or self._stale_verdict(lines),
        )  # fmt: skip
        lines, verdict, estimate, calls = weighed.lines, weighed.verdict, weighed.estimate, weighed.calls
        # Before anything is placed: what is left now is what another call would have had.
        misfit = verdict.action in (Action.DENY, Action.DEGRADE) and not paused
        suggestions = self._suggest(question, estimate, lines) if misfit else Suggestions()
        expires_at = None
        if verdict.allowed and asked.hold:
            expires_at = self.now + timedelta(seconds=asked.hold_ttl_s or self.decider.rules.hold_ttl_s)
            self._place(question, estimate, lines, calls=calls, expires_at=expires_at)
        self._audit(question, lines, verdict)
        response = answer(
            asked, estimate, lines, verdict, tier=question.call.tier, expires_at=expires_at, stale=self.stale,
            now=self.now,
        )  # fmt: skip
        response.suggestions = suggestions
        response.warnings += self._stale_rates(lines)
        if asked.lease_calls and expires_at:
            response.lease = lease_granted(
                self.decider.estimator, asked, question.call.provider, estimate, calls=calls, at=self.now
            )
        text = response.model_dump_json()
        call, action = question.call, verdict.action.value
        self._decided.append(
            Decided(
                asked.request_id, question.digest, action, text, self.now, call.component, call.provider, call.model,
                asked_of(asked, call, of_one),
            )
        )  # fmt: skip
        self.known[asked.request_id] = Known(question.digest, text)
        self.actions.append(action)
        self.replies.append(question.reply(text.encode()))

    def _suggest(self, question: Question, estimate: Estimate, lines: Sequence[Line]) -> Suggestions:
        def lines_elsewhere(call: Call, other: Estimate) -> list[Line] | None:
            if self._paused(call):
                return None
            try:
                return lines_of(self.decider.catalogue, call, other, self.now, self._balance)
            except KeyError:  # a budget that this batch has not locked
                return None

        return Misfit(
            asked=question.asked,
            call=question.call,
            estimate=estimate,
            lines=lines,
            at=self.now,
            estimator=self.decider.estimator,
            lines_of=lines_elsewhere,
            amount_on=self._amount,
            left_in=self._left_in,
            groups=self.decider.catalogue.equivalents,
        ).suggest()

    def _left_in(self, line: Line, currency: str) -> int:
        """What is left of a cost budget in *currency*, rounded up."""
        rates, of = self.decider.catalogue.rates, line.budget.spec.currency or currency
        return rates.convert(max(0, line.left), of, currency, utc_day(self.now), up=True) or 0

    def _balance(self, budget: Budget, window: Window) -> Balance:
        return self._current[self._ids[place_of(budget, window)]]

    def _amount(self, budget: Budget, estimate: Estimate) -> int | None:
        return amount_on(self.decider.catalogue, budget, estimate, self.now)

    def _place(
        self, question: Question, estimate: Estimate, lines: Sequence[Line], *, calls: int, expires_at: datetime
    ) -> None:
        balance_ids = [self._ids[place_of(line.budget, line.window)] for line in lines]
        amounts = [line.amount or 0 for line in lines]
        for balance_id, amount in zip(balance_ids, amounts, strict=True):
            self._current[balance_id] = self._current[balance_id].moved(held=amount)
            self._held[balance_id] += amount
        call, lease = question.call, question.asked.lease_calls is not None
        placed = Placed(
            request_id=question.asked.request_id,
            component=call.component,
            provider=call.provider,
            model=call.model,
            tier=call.tier,
            task_type=call.task_type,
            context_id=call.context_id,
            user=call.user,
            tags=dict(call.tags),
            cost_nanos=estimate.cost,
            tokens=estimate.tokens,
            currency=estimate.currency,
            balance_ids=holds.array_text(balance_ids),
            amounts=holds.array_text(amounts),
            decided_at=self.now,
            expires_at=expires_at,
            lease=lease,
            calls=calls,
            units="".join(holds.LETTERS[line.budget.spec.unit] for line in lines) if lease else "",
        )
        self._placed.append(placed)

    def _audit(self, question: Question, lines: Sequence[Line], verdict: Verdict) -> None:
        """Leave a trace of what a critical call was allowed: log, metric, and an alert of each budget it passed."""
        if not verdict.passed:
            return
        passed = [lines[i].budget for i in verdict.passed]
        metrics.CRITICAL_PASSED.inc()
        log.warning(
            "a critical call passed what would have denied it",
            request_id=str(question.asked.request_id),
            component=question.call.component,
            budgets=[str(budget.budget_id) for budget in passed],
        )
        for i in verdict.passed:
            self._notices[self._ids[place_of(lines[i].budget, lines[i].window)]].add(CRITICAL_PASSED)

    def _stale_rates(self, lines: Sequence[Line]) -> list[str]:
        """Of the budgets in another currency than prices, those whose rate is old."""
        found, day = [], utc_day(self.now)
        for spec in (line.budget.spec for line in lines):
            quote = self.decider.catalogue.rates.quote(PRICE_CURRENCY, spec.currency, day) if spec.currency else None
            if quote is not None and spec.currency != PRICE_CURRENCY and quote.is_stale(day):
                found.append(
                    f"budget {spec.name!r} counts in {spec.currency} by the rate that was published on "
                    f"{quote.published}, {(day - quote.published).days} days ago"
                )
        return found

    def _paused(self, call: Call) -> Verdict | None:
        return decide_paused(self.decider.catalogue.pauses, call, self.now)

    def _stale_verdict(self, lines: Sequence[Line]) -> Verdict | None:
        hard = [i for i, line in enumerate(lines) if line.policy is Policy.HARD_LIMIT and not line.budget.spec.shadow]
        if self.stale and self.decider.rules.deny_when_stale and hard:
            reason = "stale: usage is behind, and BUDGET_STALE_POLICY is deny"
            return Verdict(Action.DENY, reason, frees_up_last(lines, hard))
        return None
