"""
What users of other budget services saw of limits that were set and did not hold, told again of this one.

Each test says whose complaint it is; those that are about REST are in test_field_gateway.py. Left out:

BerriAI/litellm #19105, #14995 (documents that differ from the behaviour): test_docs.py runs the README's blocks.
anthropics/claude-code #83048 (an agent's own count of the quota was 72 times too low): we see no provider's quota.
envoyproxy/ai-gateway #1169 (tokens that were not parsed from the answer): components report them, we parse no answers.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from budget_bus.consumers.checks import Rules
from budget_bus.events.topics import CHECK_REQUESTED
from budget_bus.policy.budget import Policy, Unit
from budget_bus.policy.windows import Period
from budget_bus.settings import Settings
from budget_bus.store.limits import remove_limit
from budget_bus.store.pool import open_pool
from tests.integration.books import BOUND, COST, USD, Books, check, usage

FAIL_CLOSED = Rules(hold_ttl_s=600, stale_after_s=30, deny_when_stale=True)


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


def turn(books: Books, at: datetime) -> None:
    """Stop the clock of the consumers at *at*."""
    books.clock = lambda: at


async def allowed(books: Books, **fields: Any) -> bool:
    (answer,) = await books.ask(check(**fields))
    return bool(answer["allowed"])


async def at_once(books: Books, *questions: dict[str, Any]) -> list[dict[str, Any]]:
    """Each question to a decider of its own, all let go at the same moment."""
    together = asyncio.Barrier(len(questions))

    async def one(part: int, question: dict[str, Any]) -> dict[str, Any]:
        judge, sent = books.decider(), []
        judge.send = sent.append
        batch = await books.batch(CHECK_REQUESTED, [question], part=part)
        await together.wait()
        await judge.apply(batch, None)
        books.applied(batch)
        answer: dict[str, Any] = json.loads(sent[0].value)
        return answer

    return await asyncio.gather(*(one(part, question) for part, question in enumerate(questions)))


# A budget is set, and not enforced.


@pytest.mark.parametrize(
    ("scope", "other"),
    [
        pytest.param({"user": "ada"}, {"user": "ben"}, id="a user's"),
        pytest.param({"component": "rhetor"}, {"component": "ergon"}, id="a component's"),
        pytest.param({"tags": {"team": "x"}}, {"tags": {"team": "y"}}, id="a team's"),
        pytest.param({"model": "gpt-4o"}, {"model": "gpt-4o-mini"}, id="a model's"),
    ],
)
async def test_a_budget_that_is_spent_refuses_the_next_call_and_no_one_elses(
    books: Books, scope: dict[str, Any], other: dict[str, Any]
) -> None:
    """Keys and users went on although their spend was past max_budget: BerriAI/litellm #26672, #23714."""
    await books.limit(2 * COST, scope=scope)
    await books.settle(*(usage(**scope) for _ in range(3)))
    assert not await allowed(books, **scope)
    assert await allowed(books, **other)


async def test_a_cap_is_never_passed_however_often_one_asks(books: Books) -> None:
    """A bill of $1,800 came on a cap of $100, for the cap learns of the spend hours later: r/googlecloud, 2026."""
    budget = await books.limit(USD // 10)
    while going := [a for a in await books.ask(*(check() for _ in range(20))) if a["allowed"]]:
        await books.settle(*(usage(request_id=answer["request_id"]) for answer in going))
    spent, held, unconfirmed = await books.balance(budget)
    assert (held, unconfirmed) == (0, 0)
    assert USD // 10 - BOUND < spent <= USD // 10
    await books.assert_exact()


async def test_an_end_users_budget_holds_whoever_makes_the_call_for_them(books: Books) -> None:
    """An end user's budget was skipped when a header named the user: BerriAI/litellm #11083."""
    await books.limit(2 * BOUND, scope={"user": "ada"})
    calls = [check(user="ada", component=name) for name in ("rhetor", "ergon", "codex")]
    assert [answer["allowed"] for answer in await books.ask(*calls)] == [True, True, False]


async def test_a_users_budget_counts_although_the_call_has_a_team(books: Books) -> None:
    """A user's budget was ignored as soon as the key had a team: BerriAI/litellm #11962."""
    await books.limit(BOUND, scope={"user": "ada"}, name="ada's")
    await books.limit(100 * BOUND, scope={"tags": {"team": "x"}}, name="the team's")
    call = {"user": "ada", "tags": {"team": "x"}}
    assert await allowed(books, **call)
    (denied,) = await books.ask(check(**call))
    assert not denied["allowed"]
    assert [line["name"] for line in denied["budgets"] if line["binding"]] == ["ada's"]


async def test_an_answer_names_every_budget_that_it_looked_at(books: Books) -> None:
    """The error did not say which of the budgets was exceeded: BerriAI/litellm #14144, #37971."""
    for name, scope in (("all", {}), ("ada's", {"user": "ada"}), ("ben's", {"user": "ben"})):
        await books.limit(10 * USD, scope=scope, name=name)
    (answer,) = await books.ask(check(user="ada"))
    assert sorted(line["name"] for line in answer["budgets"]) == ["ada's", "all"]


@pytest.mark.parametrize(
    "switch", [{"policy": Policy.IGNORE}, {"shadow": True}], ids=["its policy is IGNORE", "it is a shadow"]
)
async def test_a_budget_that_is_switched_off_refuses_nothing_from_then_on(books: Books, switch: dict[str, Any]) -> None:
    """A switch that should have let calls past a budget had no effect: BerriAI/litellm #35076."""
    judge = books.decider()
    await books.limit(0)
    assert [answer["allowed"] for answer in await books.ask(check(), by=judge)] == [False]
    await books.limit(0, **switch)
    assert [answer["allowed"] for answer in await books.ask(check(), by=judge)] == [True]


async def test_no_process_keeps_a_cap_of_its_own_beyond_the_window(books: Books) -> None:
    """A global max_budget also armed a cap inside each process that never reset: BerriAI/litellm #40020."""
    today = datetime.now(UTC)
    await books.limit(BOUND)
    judge = books.decider()
    assert [answer["allowed"] for answer in await books.ask(check(), check(), by=judge)] == [True, False]
    tomorrow = today + timedelta(days=1)
    judge.clock = lambda: tomorrow
    assert [answer["allowed"] for answer in await books.ask(check(), check(), by=judge)] == [True, False]


async def test_without_a_budget_nobody_is_blocked(books: Books) -> None:
    """Calls were blocked by a budget that nobody had set: BerriAI/litellm #20615, #22726."""
    await books.settle(usage(input_tokens=10**9))
    (answer,) = await books.ask(check())
    assert (answer["allowed"], answer["budgets"]) == (True, [])


async def test_a_budget_that_a_mistake_has_filled_is_freed_without_touching_a_row(books: Books) -> None:
    """After one use at a price with a typo only deleting rows in the database unblocked a user: litellm #20615."""
    budget = await books.limit(USD)
    await books.settle(usage(input_tokens=10**9))
    assert not await allowed(books)
    await remove_limit(books.pool, budget.budget_id, actor="test")
    assert await allowed(books)
    assert await books.pool.fetchval("SELECT count(*) FROM ledger") == 1


async def test_usage_that_passed_no_check_counts_against_the_next_one(books: Books) -> None:
    """Pass-through endpoints spent without being seen by any budget: maximhq/bifrost #2873."""
    budget = await books.limit(2 * COST + BOUND - 1)
    await books.settle(usage(task_type="embedding"), usage(operation_id="batch-7"))
    assert (await books.balance(budget))[0] == 2 * COST
    assert not await allowed(books)
    assert await books.pool.fetchval("SELECT count(*) FROM ledger WHERE unreserved") == 2


async def test_nothing_is_degraded_or_told_at_three_percent_of_a_budget(books: Books) -> None:
    """A rule for `budget used > 99 %` fired when $0.40 of $15 were spent: maximhq/bifrost #5770."""
    await books.limit(15 * USD, policy=Policy.SOFT_LIMIT, thresholds=(99,))
    await books.settle(*(usage() for _ in range(114)))  # $0.399
    (answer,) = await books.ask(check())
    assert (answer["action"], answer["warnings"]) == ("allow", [])
    assert await books.pool.fetchval("SELECT count(*) FROM alert") == 0


async def test_110_calls_on_a_fresh_installation_are_counted_and_the_next_is_refused(books: Books) -> None:
    """About 110 requests on a fresh install were neither counted nor refused: langwatch/langwatch #6141."""
    budget = await books.limit(109 * COST + BOUND)
    for _ in range(110):
        (answer,) = await books.ask(check())
        assert answer["allowed"]
        await books.settle(usage(request_id=answer["request_id"]))
    assert await books.balance(budget) == (110 * COST, 0, 0)
    assert not await allowed(books)


async def test_a_limit_holds_although_nothing_reads_the_usage(books: Books) -> None:
    """Enforcement rode on an asynchronous projection that never ran: langwatch/langwatch #6141."""
    await books.limit(50 * BOUND)
    answers = await books.ask(*(check() for _ in range(110)))
    assert sum(answer["allowed"] for answer in answers) == 50


async def test_a_token_budget_is_charged_tokens_and_not_one_for_each_call(books: Books) -> None:
    """A limit of 30 tokens let 30 requests of 150 tokens pass, silently: wso2/api-platform #2932."""
    budget = await books.limit(3000, unit=Unit.TOKENS)
    assert await allowed(books)
    assert await books.balance(budget) == (0, 1000, 0)
    await books.settle(usage(), usage())
    assert await books.balance(budget) == (2200, 0, 0)
    assert not await allowed(books)


async def test_a_rich_budget_is_charged_before_the_call_as_a_poor_one_is(books: Books) -> None:
    """Accounts with a large balance were trusted and not charged before the call: QuantumNous/new-api #4429."""
    budget = await books.limit(1_000_000 * USD)
    assert await allowed(books)
    assert await books.balance(budget) == (0, BOUND, 0)


# A budget is enforced, and passed by calls that come together.


async def test_the_first_requests_of_an_unknown_user_do_not_pass_together(books: Books) -> None:
    """Eight threads at a barrier, all the first of a user nobody knew, all passed: BerriAI/litellm #40095."""
    budget = await books.limit(BOUND, scope={"user": "who"})
    turn(books, datetime.now(UTC) + timedelta(days=1))  # a window in which no row of a balance has been made
    answers = await at_once(books, *(check(user="who") for _ in range(8)))
    assert sum(answer["allowed"] for answer in answers) == 1
    assert await books.balance(budget) == (0, BOUND, 0)
    await books.assert_exact()


async def test_the_calls_of_a_session_do_not_pass_its_budget_together(books: Books) -> None:
    """Concurrent calls of one session all passed its budget: BerriAI/litellm #34732."""
    budget = await books.limit(3 * BOUND, scope={"context_id": "s-1"}, period=Period.TOTAL)
    answers = await at_once(books, *(check(context_id="s-1") for _ in range(8)))
    assert sum(answer["allowed"] for answer in answers) == 3
    assert await books.balance(budget) == (0, 3 * BOUND, 0)


async def test_parallel_calls_are_held_before_the_first_of_them_has_an_answer(books: Books) -> None:
    """Tokens count once the answer is there, so parallel calls and streams pass: envoyproxy/ai-gateway #680, #2394."""
    await books.limit(2 * BOUND)
    assert [answer["allowed"] for answer in await books.ask(check(), check(), check())] == [True, True, False]
    assert await books.pool.fetchval("SELECT count(*) FROM ledger") == 0


@pytest.mark.parametrize("hold", [True, False], ids=["to be held", "only asked"])
async def test_a_call_that_cannot_be_priced_is_refused_not_waved_through(books: Books, hold: bool) -> None:
    """When the cost could not be estimated, the reservation was left out: BerriAI/litellm #35524."""
    await books.limit(10 * USD)
    (answer,) = await books.ask(check(model="nobody-knows-it", hold=hold))
    assert not answer["allowed"]
    assert answer["reason"].startswith("unpriced")


async def test_a_call_that_does_not_say_how_long_its_answer_may_be_is_held_for_all_the_same(books: Books) -> None:
    """Without max_tokens all that was left was set aside, and then the call refused: BerriAI/litellm PR 27021."""
    budget = await books.limit(10 * USD)
    asked = {name: value for name, value in check(input_tokens=1000).items() if name != "estimated_tokens"}
    (answer,) = await books.ask(asked)
    assert answer["estimate_source"] == "input_tokens, default_max_output_tokens"
    assert (await books.balance(budget))[1] > COST


@pytest.mark.parametrize("hold", [True, False], ids=["to be held", "only asked"])
async def test_fail_closed_is_closed_to_holds_too(books: Books, hold: bool) -> None:
    """A flag to fail closed was not looked at where budget was reserved: BerriAI/litellm #33923."""
    books.rules = FAIL_CLOSED
    await books.limit(10 * USD)
    assert await allowed(books, hold=hold)
    later = datetime.now(UTC) + timedelta(minutes=1)
    turn(books, later)  # nobody has read usage in this minute
    (answer,) = await books.ask(check(hold=hold))
    assert (answer["allowed"], answer["stale"], answer["hold"]) == (False, True, None)


async def test_four_replicas_have_one_cap_and_not_four(books: Books, settings: Settings) -> None:
    """State was kept per replica, so N replicas let N times the cap pass: maximhq/bifrost #3547, litellm #33325."""
    await books.limit(10 * BOUND)
    count = 0
    async with open_pool(settings, size=2) as a, open_pool(settings, size=2) as b:
        replicas = [Books(pool).decider() for pool in (a, b, books.pool, books.pool)]
        for _ in range(5):
            for part, replica in enumerate(replicas):
                sent: list[Any] = []
                replica.send = sent.append
                batch = await books.batch(CHECK_REQUESTED, [check()], part=part)
                await replica.apply(batch, None)
                books.applied(batch)
                count += json.loads(sent[0].value)["allowed"]
    assert count == 10


async def test_the_projects_budget_is_part_of_the_hold(books: Books) -> None:
    """Budgets of projects were left out of what a request reserves: BerriAI/litellm #34101."""
    whole = await books.limit(10 * USD)
    project = await books.limit(BOUND, scope={"tags": {"project": "p"}})
    assert await allowed(books, tags={"project": "p"})
    assert await books.balance(whole) == await books.balance(project) == (0, BOUND, 0)
    assert not await allowed(books, tags={"project": "p"})
    assert await books.balance(whole) == (0, BOUND, 0)


async def test_what_is_spent_while_a_day_ends_is_in_one_day_or_the_other(books: Books) -> None:
    """A reset wrote a zero over what was spent meanwhile: BerriAI/litellm #34733."""
    budget = await books.limit(10 * USD)
    midnight = datetime(2027, 3, 2, tzinfo=UTC)
    turn(books, midnight)

    async def spend(part: int) -> None:
        for step in range(-5, 5):
            at = midnight + timedelta(seconds=step)
            await books.settle(usage(occurred_at=at.isoformat()), part=part)

    # Another component asks, for usage that names no request would settle its own component's holds.
    asking = at_once(books, check(component="ergon"), check(component="ergon"))
    await asyncio.gather(spend(0), spend(1), spend(2), asking)
    assert await books.balance(budget, midnight - timedelta(seconds=1)) == (15 * COST, 0, 0)
    assert await books.balance(budget, midnight) == (15 * COST, 2 * BOUND, 0)
    await books.assert_exact()


async def test_what_is_left_falls_with_every_check_and_every_use(books: Books) -> None:
    """What a header said was left never fell: envoyproxy/ai-gateway #1754."""
    await books.limit(10 * BOUND)
    left = []
    for _ in range(3):
        (answer,) = await books.ask(check())
        left.append(answer["budgets"][0]["available"])
    await books.settle(usage(component="ergon"))
    (answer,) = await books.ask(check(hold=False))
    left.append(answer["budgets"][0]["available"])
    assert left == ["0.09", "0.08", "0.07", "0.0665"]
