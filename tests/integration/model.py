"""
The books as they should be, for comparison with the real ones: lists and dicts, every number a sum over all of them.

It shares no code with the product. Messages are the dicts that go on the wire; calls are of one provider.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

PRICES = {"gpt-4o": (2_500, 10_000), "gpt-4o-mini": (150, 600)}  # nanos per token in and out; others have no price
ACTIONS = ["allow", "warn", "degrade", "deny"]  # from the mildest
SKEW, DAY, TTL = timedelta(seconds=5), timedelta(days=1), timedelta(seconds=600)
NEVER = datetime.max.replace(tzinfo=UTC)
Pair = tuple[UUID, datetime]  # a budget and the start of one of its windows


def start_of(period: str, at: datetime) -> datetime:
    """Where the window of *at* begins, in UTC."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = {"hourly": at.replace(minute=0, second=0, microsecond=0), "daily": midnight}
    starts |= {"weekly": midnight - at.weekday() * DAY, "monthly": midnight.replace(day=1)}
    return starts.get(period, datetime(1970, 1, 1, tzinfo=UTC))


def call_of(said: dict[str, Any]) -> dict[str, Any]:
    return {name: said.get(name) for name in ("component", "model", "context_id")}


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


@dataclass
class Budget:
    scope: dict[str, str]
    period: str
    unit: str
    limit: int
    policy: str
    ceiling: int | None = None
    shadow: bool = False
    critical_may_pass: bool = False
    in_force: bool = True
    raises: list[tuple[int, datetime, datetime]] = field(default_factory=list)  # amount, from, until

    def limit_at(self, at: datetime) -> int:
        return self.limit + sum(amount for amount, begin, end in self.raises if begin <= at < end)

    @property
    def hard(self) -> bool:
        return self.in_force and self.policy == "HARD_LIMIT" and not self.shadow

    def admits(self, call: dict[str, Any]) -> bool:
        return all(call[name] == value for name, value in self.scope.items())

    def action(self, amount: int | None, committed: int, limit: int, *, critical: bool) -> str:
        """What this budget says to a call of *amount*; None is an unknown cost."""
        over = amount is None or (amount > 0 and committed + amount > limit)
        if not over or self.shadow or self.policy == "IGNORE":
            return "allow"
        if self.policy == "SOFT_LIMIT":
            if not self.ceiling or (amount is not None and 100 * (committed + amount) <= self.ceiling * limit):
                return "degrade"
        elif self.policy == "WARN":
            return "warn"
        return "warn" if critical and self.critical_may_pass else "deny"


@dataclass
class Counted:
    """A ledger row (at: its accounted_at), or a hold (at: its decision) with the windows that it is charged to."""

    call: dict[str, Any]
    at: datetime
    cost: int | None
    tokens: int
    state: str = "open"
    expires_at: datetime = NEVER
    charged: set[Pair] = field(default_factory=set)

    def amount(self, unit: str) -> int | None:
        return {"cost": self.cost, "tokens": self.tokens, "requests": 1}[unit]


@dataclass
class Model:
    budgets: dict[UUID, Budget] = field(default_factory=dict)
    born: set[Pair] = field(default_factory=set)
    ledger: dict[Any, Counted] = field(default_factory=dict)
    said: dict[Any, dict[str, Any]] = field(default_factory=dict)  # what came first under an event's id
    holds: dict[str, Counted] = field(default_factory=dict)
    decisions: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    loose: set[Pair] = field(default_factory=set)  # windows that what no check can refuse may have carried past a limit

    def balances(self) -> dict[Pair, tuple[int, int, int]]:
        """spent, held and unconfirmed of every window that was born."""
        sums: dict[Pair, list[int]] = {pair: [0, 0, 0] for pair in self.born}
        for row in self.ledger.values():
            for budget_id, budget in self.budgets.items():
                pair = (budget_id, start_of(budget.period, row.at))
                if pair in sums and budget.admits(row.call):
                    sums[pair][0] += row.amount(budget.unit) or 0
        for hold in self.holds.values():
            for pair in hold.charged if hold.state in ("open", "unconfirmed") else ():
                sums[pair][1 if hold.state == "open" else 2] += hold.amount(self.budgets[pair[0]].unit) or 0
        return {pair: (spent, held, unconfirmed) for pair, (spent, held, unconfirmed) in sums.items()}

    def live(self) -> set[str]:
        return {request_id for request_id, hold in self.holds.items() if hold.state in ("open", "unconfirmed")}

    def pairs(self, call: dict[str, Any], at: datetime) -> dict[Pair, Budget]:
        """The windows that a call belongs to."""
        matching = {i: b for i, b in self.budgets.items() if b.in_force and b.admits(call)}
        return {(i, start_of(b.period, at)): b for i, b in matching.items()}

    def bear(self, pairs: Iterable[Pair]) -> None:
        """A window that nobody has looked at yet is charged with the holds that were placed in it before."""
        for pair in set(pairs) - self.born:
            self.born.add(pair)
            for hold in self.holds.values():
                counts = hold.state == "open" or (hold.state == "unconfirmed" and self.budgets[pair[0]].hard)
                if counts and pair in self.pairs(hold.call, hold.at):
                    hold.charged.add(pair)
            if any(self.balances()[pair]):
                self.loose.add(pair)

    def set_budget(self, budget_id: UUID, budget: Budget, now: datetime) -> None:
        before = self.budgets.get(budget_id)
        self.budgets[budget_id] = budget
        if before and (before.period, before.scope) != (budget.period, budget.scope):
            self.born -= (gone := {pair for pair in self.born if pair[0] == budget_id})
            for hold in self.holds.values():
                hold.charged -= gone
        self.loose |= {pair for pair in self.born if pair[0] == budget_id}
        self.bear([(budget_id, start_of(budget.period, now))])

    def ask(self, questions: list[dict[str, Any]], now: datetime) -> list[str]:
        """The action of each, or `released`, `expired`, `conflict`."""
        for asked in questions:
            if asked["request_id"] not in self.decisions and not self._late(asked, now):
                self.bear(self.pairs(call_of(asked), now))
        return [self._answer(asked, now) for asked in questions]

    def _late(self, asked: dict[str, Any], now: datetime) -> bool:
        return "deadline" in asked and instant(asked["deadline"]) < now

    def _answer(self, asked: dict[str, Any], now: datetime) -> str:
        request_id, said = asked["request_id"], {k: v for k, v in asked.items() if k != "deadline"}
        if request_id in self.decisions:
            first, action = self.decisions[request_id]
            return action if action == "released" or first == said else "conflict"
        if self._late(asked, now):
            return "expired"
        tokens, dearest = asked["estimated_tokens"], max(PRICES.get(asked["model"], (-1, -1)))
        cost = tokens * dearest if dearest >= 0 else None
        until = now + (timedelta(seconds=asked["hold_ttl_s"]) if "hold_ttl_s" in asked else TTL)
        hold = Counted(call_of(asked), now, cost, tokens, expires_at=until)
        pairs, balances = self.pairs(hold.call, now), self.balances()
        critical = asked.get("priority") == "critical"
        said_by = {
            pair: b.action(hold.amount(b.unit), sum(balances[pair]), b.limit_at(now), critical=critical)
            for pair, b in pairs.items()
        }
        action = max(["allow", *said_by.values()], key=ACTIONS.index)
        self.decisions[request_id] = (said, action)
        if action != "deny" and asked.get("hold", True):
            hold.charged = set(pairs)
            self.loose |= {pair for pair in pairs if said_by[pair] != "allow"}
            self.holds[request_id] = hold
        return action

    def settle(self, batch: list[tuple[Any, dict[str, Any], datetime]]) -> None:
        """Events with their ids and the time of their records."""
        fresh: dict[Any, tuple[dict[str, Any], datetime]] = {}
        for event_id, said, recorded_at in batch:
            if event_id not in self.said:
                self.said[event_id] = said
                fresh[event_id] = (said, instant(said["occurred_at"]) if "occurred_at" in said else recorded_at)
            elif self.said[event_id] != said:
                self.dead.append("conflict")
        settled = self._settled_by(fresh)
        for event_id, (said, at) in fresh.items():
            hold = settled.get(event_id)
            price = PRICES.get(said["model"])
            cost = price and said["input_tokens"] * price[0] + said["output_tokens"] * price[1]
            row = Counted(call_of(said), hold.at if hold else at, cost, said["input_tokens"] + said["output_tokens"])
            self.ledger[event_id] = row
            for pair, budget in self.pairs(row.call, row.at).items():
                reserved = hold.amount(budget.unit) if hold and pair in hold.charged else 0
                if (row.amount(budget.unit) or 0) > (reserved or 0):
                    self.loose.add(pair)
        for event_id in fresh:
            self.bear(self.pairs(self.ledger[event_id].call, self.ledger[event_id].at))

    def _settled_by(self, events: dict[Any, tuple[dict[str, Any], datetime]]) -> dict[Any, Counted]:
        """The hold of each event that has one: those that events name go first, the others take the oldest."""
        settled: dict[Any, Counted] = {}
        for said, _ in events.values():
            if said.get("request_id", "") not in {"", *self.holds}:
                self.decisions.setdefault(said["request_id"], ({}, "released"))  # its check will place nothing
        for named in (True, False):
            for event_id, (said, at) in events.items():
                if ("request_id" in said) is named and (hold := self._hold_of(said, at)):
                    hold.state, settled[event_id] = "settled", hold
        return settled

    def _hold_of(self, said: dict[str, Any], at: datetime) -> Counted | None:
        if "request_id" in said:
            hold = self.holds.get(said["request_id"])
            own = hold and hold.call["component"] == call_of(said)["component"]
            return hold if hold and own and hold.state in ("open", "unconfirmed") else None
        call = call_of(said)
        same = ["component", "model"] + (["context_id"] if "context_id" in said else [])
        for _, hold in sorted(self.holds.items(), key=lambda item: (item[1].at, item[0])):
            if hold.state == "open" and hold.at <= at + SKEW and all(hold.call[n] == call[n] for n in same):
                return hold
        return None

    def release(self, wish: dict[str, Any]) -> None:
        self.decisions.setdefault(wish["request_id"], ({}, "released"))
        hold = self._own(wish)
        if hold and hold.state in ("open", "unconfirmed"):
            hold.state = "voided"

    def extend(self, wish: dict[str, Any], now: datetime) -> None:
        if instant(wish["expires_at"]) > now + DAY:
            self.dead.append("too far ahead")
        elif (hold := self._own(wish)) and hold.state == "open":
            hold.expires_at = max(hold.expires_at, instant(wish["expires_at"]))

    def _own(self, wish: dict[str, Any]) -> Counted | None:
        hold = self.holds.get(wish["request_id"])
        if hold and hold.call["component"] != wish["component"]:
            self.dead.append("not the asker")
            return None
        return hold

    def expire(self, read_to: datetime) -> int:
        """End the holds that ended before *read_to*, up to when all usage is known."""
        ended = [h for h in self.holds.values() if h.state == "open" and h.expires_at < read_to]
        for hold in ended:
            budgets = {pair: self.budgets[pair[0]] for pair in hold.charged}
            hold.charged = {pair for pair, b in budgets.items() if b.hard and hold.amount(b.unit)}
            hold.state = "unconfirmed" if hold.charged else "expired"
        return len(ended)
