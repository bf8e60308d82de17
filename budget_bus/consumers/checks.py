"""check.requested -> decision, hold, check.response: the decider."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from aiokafka import ConsumerRecord

from budget_bus import metrics
from budget_bus.consumers.answers import answer, undecided
from budget_bus.consumers.batch import Batch, Clock, utc_now
from budget_bus.consumers.dead_letters import DeadLetter, bury
from budget_bus.consumers.estimates import Estimate, Estimator
from budget_bus.consumers.facts import Change, announce
from budget_bus.consumers.incoming import call_of
from budget_bus.errors import Rejected
from budget_bus.events.checks import CheckRequested
from budget_bus.events.decode import decode
from budget_bus.policy.budget import Balance, Budget, Policy, Unit
from budget_bus.policy.decide import Action, Line, Verdict, decide, frees_up_last
from budget_bus.policy.scope import Call
from budget_bus.policy.windows import Window
from budget_bus.store import balances, fence, holds
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.holds import Decided, Known, Placed


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer on its way to the asker's partition; *error* names what is wrong instead of a decision."""

    topic: str
    partition: int | None
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Question:
    """A check as it came, with where its answer goes."""

    record: ConsumerRecord
    asked: CheckRequested
    digest: bytes
    call: Call

    def reply(self, value: bytes, *, error: str | None = None) -> Reply:
        return _reply(_headers(self.record), str(self.asked.request_id), value, error)


def _headers(record: ConsumerRecord) -> dict[str, str]:
    return {name: text for name, raw in record.headers if (text := _text(raw)) is not None}


def _reply(headers: Mapping[str, str], request_id: str, value: bytes, error: str | None) -> Reply:
    partition = headers.get("reply_partition", "")
    marks = [("correlation_id", headers.get("correlation_id", request_id).encode())]
    if error:
        marks.append(("error", error.encode()))
    return Reply(
        topic=headers.get("reply_topic", ""),
        partition=int(partition) if partition.isascii() and partition.isdigit() and len(partition) < 7 else None,
        key=request_id.encode(),
        value=value,
        headers=marks,
    )


def invalid(letter: DeadLetter) -> Reply | None:
    """What the asker of a question that cannot be used is told at once, if it can be told: the dead letter's reason."""
    headers = _headers(letter.record)
    if "correlation_id" not in headers:
        return None
    detail = json.dumps({"detail": letter.reason}).encode()
    return _reply(headers, headers["correlation_id"], detail, "invalid")


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
        questions, dead = _read(batch, refused)
        async with self.pool.acquire() as connection, connection.transaction():
            entry = await fence.enter(connection, batch.topic, batch.moves)
            await self.catalogue.refresh(connection, entry.catalogue_version)
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
    _decided: list[Decided] = field(default_factory=list)
    _placed: list[Placed] = field(default_factory=list)
    _held: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    async def decide_all(self, connection: asyncpg.Connection, questions: Sequence[Question]) -> None:
        """Lock the balances of all that is new, decide one after the other, write everything in one statement."""
        catalogue, self.locked_at = self.decider.catalogue, self.now
        wanted: dict[tuple[Any, Any], tuple[Budget, Window]] = {}
        for question in questions:
            if question.asked.request_id not in self.known and not self._is_late(question):
                for budget in catalogue.matching(question.call):
                    window = catalogue.window(budget, self.now)
                    wanted[budget.budget_id, window.start] = (budget, window)
        ids, _ = await balances.ensure(connection, catalogue, wanted)
        # Nothing after this line waits for anything but the one statement that writes the decisions.
        now_in_books = await balances.lock(connection, ids.values()) if ids else {}
        current = dict(now_in_books)
        self.locked_at = self.decider.clock()
        for question in questions:
            self._answer(question, ids, current)
        if self._decided:
            await holds.place(connection, self._decided, self._placed, self._held)
        changes: dict[int, Change] = {
            ids[key]: (budget, window, current[ids[key]])
            for key, (budget, window) in wanted.items()
            if self._held.get(ids[key])
        }
        if changes:
            await announce(connection, catalogue, changes, now=self.now)

    def _is_late(self, question: Question) -> bool:
        deadline = question.asked.deadline
        return deadline is not None and deadline < self.locked_at

    def _answer(self, question: Question, ids: dict[tuple[Any, Any], int], current: dict[int, Balance]) -> None:
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
        self._decide(question, ids, current)

    def _refuse(self, question: Question, reason: str) -> None:
        """Answer without deciding: nothing is placed and nothing remembered."""
        self.actions.append(reason)
        response = undecided(question.asked, reason, tier=question.call.tier, now=self.now)
        self.replies.append(question.reply(response.model_dump_json().encode()))

    def _decide(self, question: Question, ids: dict[tuple[Any, Any], int], current: dict[int, Balance]) -> None:
        asked, catalogue = question.asked, self.decider.catalogue
        estimate = self.decider.estimator.estimate(asked, question.call.provider, at=self.now)
        lines, balance_ids = [], []
        for budget in catalogue.matching(question.call):
            window = catalogue.window(budget, self.now)
            balance_id = ids[budget.budget_id, window.start]
            balance_ids.append(balance_id)
            amount = _amount(budget, estimate)
            lines.append(Line(budget, catalogue.policy_of(budget), window, current[balance_id], amount))
        verdict = self._stale_verdict(lines) or decide(lines)
        expires_at = None
        if verdict.allowed and asked.hold:
            expires_at = self.now + timedelta(seconds=asked.hold_ttl_s or self.decider.rules.hold_ttl_s)
        response = answer(
            asked, estimate, lines, verdict, tier=question.call.tier, expires_at=expires_at, stale=self.stale,
            now=self.now,
        )  # fmt: skip
        if expires_at:
            amounts = [line.amount or 0 for line in lines]
            for balance_id, amount in zip(balance_ids, amounts, strict=True):
                was = current[balance_id]
                current[balance_id] = Balance(was.spent, was.held + amount, was.unconfirmed)
                self._held[balance_id] += amount
            self._placed.append(_hold(question, estimate, balance_ids, amounts, until=(self.now, expires_at)))
        text = response.model_dump_json()
        self._decided.append(Decided(asked.request_id, question.digest, verdict.action.value, text, self.now))
        self.known[asked.request_id] = Known(question.digest, text)
        self.actions.append(verdict.action.value)
        self.replies.append(question.reply(text.encode()))

    def _stale_verdict(self, lines: Sequence[Line]) -> Verdict | None:
        hard = [i for i, line in enumerate(lines) if line.policy is Policy.HARD_LIMIT and not line.budget.spec.shadow]
        if self.stale and self.decider.rules.deny_when_stale and hard:
            reason = "stale: usage is behind, and BUDGET_STALE_POLICY is deny"
            return Verdict(Action.DENY, reason, frees_up_last(lines, hard))
        return None


def _hold(
    question: Question,
    estimate: Estimate,
    balance_ids: Sequence[int],
    amounts: Sequence[int],
    *,
    until: tuple[datetime, datetime],
) -> Placed:
    call = question.call
    return Placed(
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
        decided_at=until[0],
        expires_at=until[1],
    )


def _read(batch: Batch, refused: str | None) -> tuple[list[Question], list[DeadLetter]]:
    questions, dead = [], []
    for record in batch.records:
        try:
            if refused is not None:
                raise Rejected(refused)
            asked = decode(CheckRequested, record.value)
        except Rejected as error:
            dead.append(DeadLetter(record, str(error)))
            continue
        questions.append(Question(record, asked, asked.digest(), call_of(asked)))
    return questions, dead


def _amount(budget: Budget, estimate: Estimate) -> int | None:
    if budget.spec.unit is Unit.REQUESTS:
        return 1
    if budget.spec.unit is Unit.TOKENS:
        return estimate.tokens
    return estimate.cost


def _text(raw: bytes | None) -> str | None:
    # A header that is null or not UTF-8 is ignored; it must not cost the question its answer.
    try:
        return raw.decode() if raw is not None else None
    except UnicodeDecodeError:
        return None
