"""
The real consumers on the real SQL, driven at random beside a model of the books that is obviously right.

Each step is one batch, change or look at the clock, through a crash, a lost answer or a take-over now and then. After
each step every balance, every hold and all counts are compared. A red run prints the steps that lead to it, shrunk.
BUDGET_TEST_MODEL_STEPS sets the number of steps, and then they are other ones in every run.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from budget_bus.settings import Settings
from budget_bus.store.pool import open_pool
from tests.integration.model import ACTIONS, Budget
from tests.integration.model_driver import DISASTERS, STEP_OF, Driver, tables_of

MORE = os.environ.get("BUDGET_TEST_MODEL_STEPS")
ENOUGH = 20_000
STEPS = int(MORE or ENOUGH)
STEPS_EACH = 100
START = datetime(2031, 2, 28, 22, 30, tzinfo=UTC)  # midnight, the month and soon the week end
NAMES = UUID(int=7)

# The simple ones come first: what a failure shrinks to. What is usual comes more than once.
QUESTIONS = [
    {"component": component, "provider": "openai", "model": model, "estimated_tokens": tokens, **hold, **context}
    for context, hold, model, tokens, component in product(
        ({}, {"context_id": "a"}),
        ({}, {}, {"hold_ttl_s": 60}, {"hold": False}),
        ("gpt-4o", "gpt-4o", "gpt-4o", "gpt-4o-mini", "gpt-4o-mini", "house-1"),
        (1000, 1000, 500, 2000, 0),
        ("rhetor", "ergon"),
    )
]
QUESTIONS += [{**question, "priority": "critical"} for question in QUESTIONS[::5]]
# What was used of a hold of 1,000 tokens of gpt-4o: exactly it, less, more, nothing.
COUNTS = [(0, 1000), (400, 100), (1000, 1500), (0, 0)]
EVENTS = [
    {"component": component, "provider": "openai", "model": model, "input_tokens": i, "output_tokens": o, **context}
    for context, model, (i, o), component in product(
        ({}, {"context_id": "a"}), ("gpt-4o", "gpt-4o", "gpt-4o", "gpt-4o-mini", "house-1"), COUNTS, ("rhetor", "ergon")
    )
]
SCOPES = [{}, {"component": "rhetor"}, {"model": "gpt-4o"}, {"context_id": "a"}]
PERIODS = ["daily", "hourly", "weekly", "monthly", "total"]
POLICIES = ["HARD_LIMIT", "HARD_LIMIT", "WARN", "SOFT_LIMIT", "IGNORE"]
RAISES = ["up", "up", "down", "removed"]
PAUSES = [timedelta(seconds=s) for s in (1, 4, 31, 62, 601, 3_600, 86_400)]
AGO = [None, *(timedelta(seconds=s) for s in (0, 4, 6, 3_600, 86_400, -200))]  # None: the record's time says it

ASKED = ["new", "new", "new", "new", "asked before", "another under its id"]
USED = ["names a hold", "names a hold", "names none", "names none", "another caller names it", "comes before its check"]
USED += ["has no id", "sent before", "another under its id"]

# What must have come about often for a green run to say anything.
SEEN = [f"answered {outcome}" for outcome in (*ACTIONS, "released", "expired", "conflict")]
SEEN += [f"{state} at the end" for state in ("open", "settled", "voided", "expired", "unconfirmed")]
SEEN += ["crash", "answer lost", "taken over", "applied again", "replayed", "holds that ended", "raises ended"]

budgets = st.builds(
    lambda scope, period, unit, times, policy, more: Budget(
        scope,
        period,
        unit,
        times * STEP_OF[unit],
        policy,
        150 if more == "ceiling" and policy == "SOFT_LIMIT" else None,
        shadow=more == "shadow",
        critical_may_pass=more == "critical",
    ),
    st.sampled_from(SCOPES),
    st.sampled_from(PERIODS),
    st.sampled_from(list(STEP_OF)),
    st.sampled_from([10, 3, 30, 100, 1, 0]),
    st.sampled_from(POLICIES),
    st.sampled_from(["nothing", "nothing", "ceiling", "critical", "shadow"]),
)
picks, parts, disasters = st.integers(0, 999), st.integers(0, 1), st.sampled_from(DISASTERS)
# Not sampled_from: Hypothesis would write all of them into its messages.
questions = st.integers(0, len(QUESTIONS) - 1).map(lambda i: QUESTIONS[i])
events = st.integers(0, len(EVENTS) - 1).map(lambda i: EVENTS[i])
asked_ones = st.tuples(questions, st.sampled_from(ASKED), picks)
used_ones = st.tuples(events, st.sampled_from(USED), picks, st.sampled_from(AGO))


class Machine(RuleBasedStateMachine):
    """
    Draws what happens; the driver makes it happen to the books and to the model.

    The rules are few and have many cases: Hypothesis leaves out half of the rules of an example.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world, self.looks = world, 0
        self.driver = Driver(world.pool, START, world.tally)
        self.asked: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.run(self.driver.begin(world.tables))

    def run(self, coroutine: Any) -> Any:
        return self.world.runner.run(coroutine)

    @initialize(first=st.lists(budgets, max_size=3), asked=st.lists(questions, max_size=4))
    def begin(self, first: list[Budget], asked: list[dict[str, Any]]) -> None:
        for budget in first:
            self.run(self.driver.set_budget(budget))
        self.run(self.driver.ask([self._new_question(question) for question in asked], 0, None))

    @rule(
        asked=st.lists(asked_ones, min_size=1, max_size=4),
        late=st.sampled_from([None, None, None, None, None, None, 0, 1]),
        part=parts,
        disaster=disasters,
    )
    def check(self, asked: list[Any], late: int | None, part: int, disaster: Any) -> None:
        values = []
        for question, kind, pick in asked:
            if kind == "new" or not self.asked:
                values.append(self._new_question(question, late))
            else:
                first = self.asked[pick % len(self.asked)]
                values.append(first if kind == "asked before" else {"request_id": first["request_id"], **question})
        self.run(self.driver.ask(values, part, disaster))

    @rule(used=st.lists(used_ones, min_size=1, max_size=4), part=parts, disaster=disasters)
    def usage(self, used: list[Any], part: int, disaster: Any) -> None:
        values = [self._event(*one) for one in used]
        self.run(self.driver.settle(values, part, disaster))

    @rule(
        kind=st.sampled_from(["void", "void twice", "extend", "void before its check"]),
        pick=picks,
        by=st.sampled_from([None, None, None, "ergon"]),
        hours=st.sampled_from([1, 0, 23, 25]),
        disaster=disasters,
    )
    def wish(self, kind: str, pick: int, by: str | None, hours: int, disaster: Any) -> None:
        if kind == "void before its check" or not self.asked:
            question = self._new_question(QUESTIONS[pick % len(QUESTIONS)])
        else:
            question = self._picked(pick)
        wish = {"request_id": question["request_id"], "component": by or question["component"]}
        if kind == "extend":
            until = self.driver.now + timedelta(hours=hours)
            self.run(self.driver.extend([{**wish, "expires_at": until.isoformat()}], disaster))
        else:
            self.run(self.driver.release([wish] * (2 if kind == "void twice" else 1), disaster))

    @rule(
        pause=st.sampled_from([*PAUSES, None]),
        lags=st.sampled_from([(0, 0), (0, 0), (0, 0), (0, 3600), (601, None), (None, None)]),
        disaster=st.sampled_from([None, None, None, 1, 3, 99, "answer lost"]),
    )
    def time_passes(self, pause: timedelta | None, lags: tuple[int | None, int | None], disaster: Any) -> None:
        """For a while, or until just before midnight; then usage is read up to so many seconds ago, and holds end."""
        now = self.driver.now
        self.driver.now = now + pause if pause else now.replace(hour=23, minute=59, second=57)
        self.run(self.driver.read_to(lags))
        self.run(self.driver.expire(disaster))

    # With more of them nearly all is denied.
    @precondition(lambda self: len(self.driver.in_force()) < 4)
    @rule(budget=budgets)
    def a_budget_is_made_or_set_anew(self, budget: Budget) -> None:
        self.run(self.driver.set_budget(budget))

    @precondition(lambda self: self.driver.in_force())
    @rule(
        pick=picks,
        times=st.sampled_from([None, 20, 50, 4, 1, 0]),
        policy=st.sampled_from([None, "HARD_LIMIT", "WARN"]),
        period=st.sampled_from([None, None, None, *PERIODS]),
    )
    def a_budget_is_changed(self, pick: int, times: int | None, policy: str | None, period: str | None) -> None:
        self.run(self.driver.change_budget(pick, times, policy, period))

    @precondition(lambda self: self.driver.in_force())
    @rule(pick=picks, times=st.sampled_from([5, 1]), pause=st.sampled_from(PAUSES), how=st.sampled_from(RAISES))
    def a_limit_is_raised(self, pick: int, times: int, pause: timedelta, how: str) -> None:
        """For a while, or its raises end at once, or it is removed with them."""
        if how == "up":
            self.run(self.driver.raise_budget(pick, times, pause))
        elif how == "down":
            self.run(self.driver.end_raises(pick))
        else:
            self.run(self.driver.remove_budget(pick))

    @precondition(lambda self: self.driver.logs)
    @rule(pick=picks)
    def a_topic_is_replayed_from_its_beginning(self, pick: int) -> None:
        self.run(self.driver.replay(pick))

    def _new_id(self) -> str:
        return str(uuid5(NAMES, f"{len(self.asked)} {len(self.sent)}"))

    def _new_question(self, question: dict[str, Any], late: int | None = None) -> dict[str, Any]:
        """*late* are the seconds that its deadline lies back."""
        asked = {"request_id": self._new_id(), **question}
        if late is not None:
            asked["deadline"] = (self.driver.now - timedelta(seconds=late)).isoformat()
        self.asked.append(asked)
        return asked

    def _picked(self, pick: int) -> dict[str, Any]:
        """One of the questions, mostly one whose hold has not ended; nothing if nothing was asked."""
        live = self.driver.model.live()
        open_ = [asked for asked in self.asked if asked["request_id"] in live]
        among = open_ if open_ and pick % 4 else self.asked
        return among[pick // 4 % len(among)] if among else {}

    def _event(self, said: dict[str, Any], kind: str, pick: int, ago: timedelta | None) -> dict[str, Any]:
        if kind in ("sent before", "another under its id") and self.sent:
            event = self.sent[pick % len(self.sent)]
            return event if kind == "sent before" else {**event, "output_tokens": event["output_tokens"] + 1}
        event = {**said, "event_id": self._new_id()}
        if ago is not None:
            event["occurred_at"] = (self.driver.now - ago).isoformat()
        asked = self._new_question(QUESTIONS[pick % len(QUESTIONS)]) if "before" in kind else self._picked(pick)
        if asked and kind in ("names a hold", "another caller names it", "comes before its check"):
            event["request_id"] = asked["request_id"]
        if asked and kind != "another caller names it" and pick % 3:
            event |= {"component": asked["component"], "model": asked["model"]}
        if kind == "has no id":
            del event["event_id"]
        self.sent.append(event)
        return event

    @invariant()
    def the_books_are_the_models(self) -> None:
        self.run(self.driver.agree())
        self.looks += 1
        self.world.tally["steps"] += self.looks > 1  # the first look is before the first step
        if self.looks % 25 == 0:
            self.run(self.driver.books.assert_exact())

    def teardown(self) -> None:
        self.world.tally.update(f"{hold.state} at the end" for hold in self.driver.model.holds.values())


@dataclass
class World:
    """What all examples share: a database, a loop of their own, and the count of what has happened."""

    runner: asyncio.Runner
    pool: asyncpg.Pool
    tables: str
    tally: Counter[str] = field(default_factory=Counter)


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opening = open_pool(settings, size=2)
        pool = runner.run(opening.__aenter__())
        yield World(runner, pool, runner.run(tables_of(pool)))
        runner.run(opening.__aexit__(None, None, None))


def test_the_books_are_the_models_through_many_steps(world: World) -> None:
    how = settings(
        max_examples=9,
        stateful_step_count=STEPS_EACH,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    # Rounds of few examples, because after the tenth Hypothesis tries variations of those before.
    number = 0 if not MORE else secrets.randbits(32)
    while world.tally["steps"] < STEPS:
        run_state_machine_as_test(seed(number)(partial(Machine, world)), settings=how)
        number += 1
    print(dict(sorted(world.tally.items())))
    assert world.tally["steps"] >= STEPS
    if STEPS >= ENOUGH:
        assert [what for what in SEEN if world.tally[what] < 10] == [], "the machine no longer gets there"
