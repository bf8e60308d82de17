"""
What users of other budget services miss in limits, told again of this one: raises, runs, leftovers, parts, alerts.

Each test says whose complaint it is; limits that were set and did not hold are in test_field_enforcement.py, and
windows that did not end in test_field_windows.py.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from budget_bus.consumers.holds import HoldKeeper
from budget_bus.errors import Rejected
from budget_bus.events.decode import decode
from budget_bus.events.facts import BudgetAlert
from budget_bus.events.topics import BUDGET_ALERTS, HOLD_RELEASED
from budget_bus.policy.budget import Basis, Budget, Policy, Unit
from budget_bus.policy.windows import Period
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.limits import end_raises, raise_limit, set_limit
from tests.integration.books import BOUND, USD, Books, check, usage
from tests.integration.clock import Clock

HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def books(pool: asyncpg.Pool, clock: Clock) -> Books:
    return Books(pool, clock=clock)


async def calls(books: Books, amount: int, **fields: Any) -> Budget:
    """A hard limit of *amount* calls a day."""
    return await books.limit(amount, unit=Unit.REQUESTS, **fields)


async def run_budget(books: Books, amount: int, **fields: Any) -> Budget:
    """A hard limit of *amount* calls for each context, of an hour from its first call on."""
    return await calls(books, amount, period=Period.PER_CONTEXT, context_ttl_s=3600, name="run", **fields)


async def admitted(books: Books, n: int, **fields: Any) -> int:
    return sum(answer["allowed"] for answer in await books.ask(*(check(**fields) for _ in range(n))))


async def use(books: Books, n: int = 1, **fields: Any) -> None:
    """*n* calls that nobody had asked about, made now."""
    await books.settle(*(usage(occurred_at=books.clock().isoformat(), **fields) for _ in range(n)))


async def release(books: Books, asked: dict[str, Any]) -> None:
    keeper = HoldKeeper(books.pool, Catalogue(Policy.WARN), books.clock)
    batch = await books.batch(HOLD_RELEASED, [{"request_id": asked["request_id"], "component": "rhetor"}])
    await keeper.apply(batch, None)
    books.applied(batch)


async def alerts(books: Books) -> list[tuple[str, int]]:
    """type and percent of what is queued for budget.alerts, in order."""
    rows = await books.pool.fetch("SELECT value FROM outbox WHERE topic = $1 ORDER BY outbox_id", BUDGET_ALERTS)
    told = [decode(BudgetAlert, row["value"]) for row in rows]
    return [(alert.type, alert.threshold_percent) for alert in told]


# What is spent in mid-window can be made good, for as long as one wants and no longer.


async def test_what_was_spent_by_mistake_is_made_good_until_the_window_ends(books: Books, clock: Clock) -> None:
    """A budget could not be reset by hand, only waited for: maximhq/bifrost #4892, PR 4921."""
    budget = await calls(books, 5)
    await use(books, 5)
    assert await admitted(books, 1) == 0
    until = budget.window(clock()).end
    await raise_limit(books.pool, budget.budget_id, 5, until=until, actor="ada", reason="a loop of ours", now=clock())
    assert await admitted(books, 9) == 5
    assert await books.balance(budget) == (5, 5, 0)  # what was spent is still told
    await books.assert_exact()
    clock.turn(days=1)
    assert await admitted(books, 9) == 5


async def test_making_good_loses_nothing_that_is_in_flight(books: Books, clock: Clock) -> None:
    """A reset left the old counter, or wrote over what came meanwhile: BerriAI/litellm PR 39729, #34733."""
    budget = await calls(books, 2)
    asked = check()
    await books.ask(asked)
    await use(books)
    await raise_limit(books.pool, budget.budget_id, 2, until=clock() + HOUR, actor="ada", now=clock())
    await use(books, request_id=asked["request_id"])
    assert await books.balance(budget) == (2, 0, 0)
    assert await admitted(books, 9) == 2
    await end_raises(books.pool, budget.budget_id, actor="ada", now=clock())
    clock.turn(seconds=1)
    assert await admitted(books, 1) == 0
    await books.assert_exact()


# A run is a budget of its own.


async def test_each_run_is_bound_without_a_key_or_a_limit_made_for_it(books: Books) -> None:
    """A budget for each run needed a key for each run: Vigil-SOC/vigil #593, of maximhq/bifrost."""
    await run_budget(books, 2)
    assert [await admitted(books, 3, context_id=f"run-{n}") for n in range(4)] == [2, 2, 2, 2]


async def test_the_calls_of_a_session_do_not_pass_its_budget_together(books: Books) -> None:
    """Concurrent calls of one session all passed its budget: BerriAI/litellm #34732."""
    budget = await run_budget(books, 7)
    deciders = [books.decider() for _ in range(4)]
    for part, decider in enumerate(deciders):  # each of them knows the session
        await books.ask(check(context_id="s-1"), part=part, by=decider)
    questions = [[check(context_id="s-1") for _ in range(3)] for _ in deciders]
    await asyncio.gather(*(books.ask(*questions[n], part=n, by=decider) for n, decider in enumerate(deciders)))
    held = await books.pool.fetch("SELECT context_id, held FROM balance WHERE budget_id = $1", budget.budget_id)
    assert [tuple(row) for row in held] == [("s-1", 7)]
    assert await books.pool.fetchval("SELECT count(*) FROM hold") == 7


async def test_a_context_that_is_given_a_time_to_live_is_not_charged_what_it_spent_before(
    books: Books, clock: Clock
) -> None:
    """A key that was given a duration kept its old spend and was over budget at once: BerriAI/litellm #34270."""
    total = await calls(books, 2, period=Period.TOTAL)
    await use(books, 2, context_id="s-1")
    clock.turn(days=40)
    assert await admitted(books, 1, context_id="s-1") == 0
    spec = replace(total.spec, period=Period.PER_CONTEXT, context_ttl_s=3600)
    await set_limit(books.pool, spec, actor="ada", budget_id=total.budget_id, now=clock())
    assert await admitted(books, 3, context_id="s-1") == 2
    await books.assert_exact()


# What is left of a window, and what is a part of another budget.


async def test_what_a_quiet_window_left_helps_the_next_and_is_not_given_twice(books: Books, clock: Clock) -> None:
    """What a window left is lost at its end: BerriAI/litellm #32603, deltawi/deltallm #123, candelahq/candela #731."""
    await calls(books, 4, rollover_cap=3)
    asked = check()
    await books.ask(asked)
    clock.turn(days=1)
    assert await admitted(books, 20) == 7
    await release(books, asked)  # it comes free in the window that has handed on already, and stays there
    clock.turn(days=-1)  # a decider whose clock is behind
    assert await admitted(books, 20) == 1
    clock.turn(days=2)
    assert await admitted(books, 20) == 4


async def test_what_a_window_left_of_its_money_is_spent_in_the_next(books: Books, clock: Clock) -> None:
    """A cap of $100 of which $60 were spent should begin the next window at $140: BerriAI/litellm #32603."""
    budget = await books.limit(100 * USD, rollover_cap=50 * USD)
    await use(books, 1000, input_tokens=20_000, output_tokens=1000)
    assert (await books.balance(budget))[0] == 60 * USD
    clock.turn(days=1)
    (answer,) = await books.ask(check(hold=False))
    (line,) = answer["budgets"]
    assert (answer["allowed"], line["limit"], line["available"]) == (True, "140", "140")
    await use(books)  # the settler begins no window twice, and loses no usage over it
    await books.assert_exact()


async def test_what_a_lead_gives_to_members_never_exceeds_what_the_lead_has(books: Books) -> None:
    """A lead should hand parts of an envelope to members, in sum no more than it, audited: openlegion PR 1253."""
    lead = await calls(books, 10)
    members = {"ada": Decimal(60), "ben": Decimal(40)}
    for name, percent in members.items():
        await calls(books, 0, parent_id=lead.budget_id, percent=percent, scope={"user": name})
    with pytest.raises(Rejected, match="other allocations"):
        await calls(books, 0, parent_id=lead.budget_id, percent=Decimal("0.0001"), scope={"user": "cy"})
    await calls(books, 5)
    assert [await admitted(books, 9, user=name) for name in members] == [3, 2]
    told = await books.pool.fetch("SELECT after ->> 'percent' FROM change WHERE after ->> 'percent' IS NOT NULL")
    assert len(told) == len(members)


# Critical calls.


async def test_a_critical_call_passes_the_cap_and_everybody_can_see_that_it_did(books: Books) -> None:
    """Critical agents should pass the cap, with a line in the log: ArtisanPack-UI/ai #51."""
    budget = await calls(books, 1, critical_may_pass=True)
    (first, second) = await books.ask(check(), check(priority="critical"))
    assert (first["allowed"], second["allowed"]) == (True, True)
    assert second["passed_budgets"] == [str(budget.budget_id)]
    kept = await books.pool.fetchval("SELECT answer FROM decision WHERE request_id = $1::uuid", second["request_id"])
    assert json.loads(kept)["passed_budgets"] == second["passed_budgets"]
    assert await alerts(books) == [("critical_passed", 0)]
    assert await admitted(books, 1) == 0  # what passed counts, for those who may not


# Alerts that come in time, and only once.


async def test_estimates_that_pin_a_budget_are_told_before_anybody_is_refused(books: Books) -> None:
    """Worst-case estimates pinned $25 at 25.000000000000004 while the log said $0: BerriAI/litellm PR 38647."""
    budget = await books.limit(10 * BOUND, alert_on=(Basis.SPENT, Basis.COMMITTED), thresholds=(80, 100))
    assert await admitted(books, 8) == 8
    assert await alerts(books) == [("cost_limit_approaching", 80)]
    assert await books.balance(budget) == (0, 8 * BOUND, 0)
    assert await admitted(books, 3) == 2
    assert (await alerts(books))[1:] == [("cost_limit_exceeded", 100)]


async def test_an_alert_is_taken_back_when_its_cause_is_gone_and_a_hundred_calls_do_not_flood(books: Books) -> None:
    """Every request past the threshold sent the alert again: BerriAI/litellm #3738, #27398."""
    await calls(books, 2, alert_on=(Basis.COMMITTED,), thresholds=(100,))
    for _ in range(50):
        pair = [check(), check()]
        assert all(answer["allowed"] for answer in await books.ask(*pair))
        for asked in pair:
            await release(books, asked)
    assert await alerts(books) == [("request_limit_exceeded", 100), ("request_limit_recovered", 100)]


async def test_a_call_far_beyond_its_estimate_is_not_silent(books: Books) -> None:
    """A call was charged 1 token for 150 that it used, and nothing said so: wso2/api-platform #2932."""
    budget = await books.limit(1_000_000, unit=Unit.TOKENS)
    asked = check(estimated_tokens=1000)
    await books.ask(asked)
    await use(books, request_id=asked["request_id"], input_tokens=150_000, output_tokens=0)
    assert await alerts(books) == [("estimate_overrun", 0)]
    assert await books.balance(budget) == (150_000, 0, 0)
    assert await books.pool.fetchval("SELECT overrun_tokens FROM hold") == 149_000


async def test_calls_that_go_past_the_checks_of_a_hard_budget_are_told_once_a_window(
    books: Books, clock: Clock
) -> None:
    """Pass-through endpoints spent without being seen by any budget: maximhq/bifrost #2873."""
    await calls(books, 1000)
    for _ in range(3):
        await use(books, 20)
    assert await alerts(books) == [("unreserved_usage", 0)]
    clock.turn(days=1)
    await use(books, 20)
    assert await alerts(books) == [("unreserved_usage", 0)] * 2


async def test_each_run_is_alerted_of_by_its_name(books: Books) -> None:
    """Only keys and teams were alerted of, not those who spend under them: BerriAI/litellm PR 22279."""
    await run_budget(books, 2, thresholds=(100,))
    for context in ("run-1", "run-2"):
        asked = [check(context_id=context) for _ in range(2)]
        await books.ask(*asked)
        for one in asked:
            await use(books, request_id=one["request_id"], context_id=context)
    rows = await books.pool.fetch("SELECT payload FROM alert ORDER BY context_id")
    told = [(row["payload"]["type"], row["payload"]["context_id"]) for row in rows]
    assert told == [("request_limit_exceeded", "run-1"), ("request_limit_exceeded", "run-2")]
    assert all(repr(context) in row["payload"]["message"] for (_, context), row in zip(told, rows, strict=True))
