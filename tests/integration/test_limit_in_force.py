"""What a limit is at a moment: a part of another, raised for a time, more by what was left of the windows before."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from budget_bus.errors import Conflict, Rejected
from budget_bus.policy.budget import Budget, Policy, Unit
from budget_bus.policy.windows import Period
from budget_bus.store.limits import end_raises, raise_limit, remove_limit
from tests.integration.books import Books, check, usage
from tests.integration.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def books(pool: asyncpg.Pool, clock: Clock) -> Books:
    return Books(pool, clock=clock)


async def calls(books: Books, amount: int, **fields: Any) -> Budget:
    """A hard limit of *amount* calls a day."""
    return await books.limit(amount, unit=Unit.REQUESTS, **fields)


async def part(books: Books, parent: Budget, percent: str, **fields: Any) -> Budget:
    return await calls(books, 0, parent_id=parent.budget_id, percent=Decimal(percent), **fields)


async def admitted(books: Books, n: int, **fields: Any) -> int:
    """How many of *n* questions are allowed."""
    return sum(answer["allowed"] for answer in await books.ask(*(check(**fields) for _ in range(n))))


async def carried(books: Books, budget: Budget) -> list[tuple[int, int]]:
    rows = await books.pool.fetch(
        "SELECT carried_in, carried_out FROM balance WHERE budget_id = $1 ORDER BY window_start", budget.budget_id
    )
    return [(row["carried_in"], row["carried_out"]) for row in rows]


# --- allocations


async def test_an_allocation_follows_its_parent(books: Books) -> None:
    whole = await calls(books, 10)
    await part(books, whole, "30", scope={"component": "rhetor"})
    assert await admitted(books, 5) == 3
    await calls(books, 20)
    assert await admitted(books, 5) == 3  # 30 % of 20 are 6
    assert await admitted(books, 5, component="codex") == 5


async def test_an_allocation_of_an_allocation_follows_both_and_is_rounded_down(books: Books) -> None:
    whole = await calls(books, 11)
    half = await part(books, whole, "50", scope={"component": "rhetor"})
    await part(books, half, "33.3333", scope={"component": "rhetor", "user": "ada"})
    assert await admitted(books, 4, user="ada") == 1  # a third of 5
    assert await admitted(books, 9) == 4


async def test_other_is_shared_by_all_that_are_not_named(books: Books) -> None:
    whole = await calls(books, 10)
    await part(books, whole, "70", scope={"component": "rhetor"})
    await part(books, whole, "30", scope={"component": {"not": ["rhetor"]}})
    assert await admitted(books, 2, component="codex") == 2
    assert await admitted(books, 2, component="ergon") == 1
    assert await admitted(books, 9) == 7


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"percent": Decimal("40.1")}, "the 40 % that other allocations", id="more than the others leave"),
        pytest.param({"period": Period.WEEKLY}, "must be as its parent", id="another period than its parent"),
        pytest.param({"unit": Unit.TOKENS}, "must be as its parent", id="another unit than its parent"),
    ],
)
async def test_allocations_add_up_to_their_parent(books: Books, fields: dict[str, Any], words: str) -> None:
    whole = await calls(books, 10)
    await part(books, whole, "60", scope={"component": "rhetor"})
    values = {"percent": Decimal(40), "unit": Unit.REQUESTS, "scope": {"component": "codex"}, **fields}
    with pytest.raises(Rejected, match=words):
        await books.limit(0, parent_id=whole.budget_id, **values)


async def test_a_parent_cannot_go_before_its_allocations(books: Books) -> None:
    whole = await calls(books, 10)
    await part(books, whole, "60", scope={"component": "rhetor"})
    with pytest.raises(Conflict, match="has allocations"):
        await remove_limit(books.pool, whole.budget_id, actor="test")


async def test_an_allocation_cannot_follow_itself(books: Books) -> None:
    whole = await calls(books, 10)
    half = await part(books, whole, "50", scope={"component": "rhetor"})
    with pytest.raises(Rejected, match="follows this budget itself"):
        await part(books, half, "50")  # the same identity as *whole*


# --- raises


async def test_a_raise_holds_until_it_ends_and_then_the_limit_is_what_it_was(books: Books, clock: Clock) -> None:
    budget = await calls(books, 2)
    assert await admitted(books, 3) == 2
    until = clock() + timedelta(hours=1)
    await raise_limit(books.pool, budget.budget_id, 3, until=until, actor="ada", reason="launch", now=clock())
    assert await admitted(books, 9) == 3
    clock.turn(hours=1)
    (answer,) = await books.ask(check())
    (line,) = answer["budgets"]
    assert (answer["allowed"], line["limit"], line["available"]) == (False, "2", "-3")


async def test_raises_add_up_end_early_and_reach_allocations(books: Books, clock: Clock) -> None:
    whole = await calls(books, 2)
    await part(books, whole, "50", scope={"component": "rhetor"})
    until = clock() + timedelta(hours=1)
    for _ in range(2):
        await raise_limit(books.pool, whole.budget_id, 2, until=until, actor="ada", now=clock())
    assert await admitted(books, 5) == 3  # half of 6
    await end_raises(books.pool, whole.budget_id, actor="ada", now=clock())
    clock.turn(seconds=1)
    assert await admitted(books, 5) == 0


async def test_a_raise_is_in_the_audit_feed_with_who_and_why(books: Books, clock: Clock) -> None:
    budget = await calls(books, 2)
    until = clock.turn(seconds=1) + timedelta(hours=1)
    await raise_limit(books.pool, budget.budget_id, 3, until=until, actor="ada", reason="launch", now=clock())
    change = await books.pool.fetchrow("SELECT before, after, actor FROM change ORDER BY at DESC LIMIT 1")
    assert (change["actor"], change["before"]["raises"]) == ("ada", [])
    (raised,) = change["after"]["raises"]
    assert (raised["amount"], raised["reason"]) == ("3", "launch")


# --- rollover


async def test_what_a_window_leaves_is_carried_into_the_next_up_to_the_cap(books: Books, clock: Clock) -> None:
    budget = await calls(books, 5, rollover_cap=4)
    assert await admitted(books, 3) == 3
    clock.turn(days=1)
    assert await admitted(books, 9) == 7  # 5 and the 2 that were left
    clock.turn(days=1)
    assert await admitted(books, 9) == 5  # nothing was left
    clock.turn(days=3)
    assert await admitted(books, 20) == 9  # two idle days would leave 10, but no more than 4 are carried
    assert (await carried(books, budget))[:2] == [(0, 2), (2, 0)]


async def test_what_is_held_or_unconfirmed_is_not_carried(books: Books, clock: Clock) -> None:
    await calls(books, 5, rollover_cap=5)
    await books.ask(*(check() for _ in range(3)))
    await books.pool.execute("UPDATE balance SET held = held - 1, unconfirmed = unconfirmed + 1")
    clock.turn(days=1)
    assert await admitted(books, 9) == 7


async def test_what_was_handed_on_cannot_be_taken_again_where_it_came_from(books: Books, clock: Clock) -> None:
    """A decider whose clock is behind still decides in the old window."""
    await calls(books, 5, rollover_cap=5)
    assert await admitted(books, 1) == 1
    clock.turn(days=1)
    assert await admitted(books, 9) == 9
    clock.turn(days=-1)
    assert await admitted(books, 9) == 0


async def test_two_deciders_that_begin_a_window_together_carry_once(books: Books, clock: Clock) -> None:
    budget = await calls(books, 5, rollover_cap=5)
    clock.turn(days=1)
    for part_number in range(4):
        await books.claim("check.requested", part_number)
    answers = await asyncio.gather(*(books.ask(*(check() for _ in range(9)), part=n) for n in range(4)))
    assert sum(answer["allowed"] for answer in {a["request_id"]: a for some in answers for a in some}.values()) == 10
    assert await carried(books, budget) == [(0, 5), (5, 0)]


async def test_a_budget_that_begins_to_hand_on_has_nothing_of_earlier_windows(books: Books, clock: Clock) -> None:
    await calls(books, 5)
    assert await admitted(books, 1) == 1
    clock.turn(days=1)
    await calls(books, 5, rollover_cap=5)
    assert await admitted(books, 9) == 5
    clock.turn(days=1)
    await calls(books, 5, rollover_cap=5, shadow=False)
    assert await admitted(books, 9) == 5


async def test_a_raised_limit_does_not_raise_what_the_window_before_left(books: Books, clock: Clock) -> None:
    await calls(books, 5, rollover_cap=100)
    assert await admitted(books, 3) == 3
    clock.turn(days=1)
    await calls(books, 50, rollover_cap=100)
    assert await admitted(books, 99) == 52


async def test_late_usage_of_an_idle_window_hands_nothing_on_twice(books: Books, clock: Clock) -> None:
    budget = await calls(books, 5, rollover_cap=50)
    clock.turn(days=2)
    assert await admitted(books, 99) == 15
    await books.settle(usage(occurred_at=(clock() - timedelta(days=1)).isoformat()))
    assert await carried(books, budget) == [(0, 5), (0, 0), (10, 0)]
    await books.assert_exact()


# --- critical calls


async def test_a_critical_call_passes_a_budget_that_allows_it_and_leaves_a_trace(books: Books) -> None:
    budget = await calls(books, 1, critical_may_pass=True)
    assert await admitted(books, 2) == 1
    (answer,) = await books.ask(check(priority="critical"))
    assert (answer["allowed"], answer["action"]) == (True, "warn")
    assert answer["passed_budgets"] == [str(budget.budget_id)]
    assert answer["reason"].startswith("critical: budget 'daily'")
    kinds = await books.pool.fetch("SELECT kind, payload FROM alert")
    assert [row["kind"] for row in kinds] == ["critical_passed"]
    assert await books.balance(budget) == (0, 2, 0)


async def test_a_critical_call_does_not_pass_a_budget_that_does_not_allow_it(books: Books) -> None:
    await calls(books, 1, critical_may_pass=True)
    strict = await calls(books, 1, scope={"component": "rhetor"})
    assert await admitted(books, 1) == 1
    (answer,) = await books.ask(check(priority="critical"))
    assert (answer["allowed"], answer["binding_budget"]) == (False, str(strict.budget_id))
    assert answer["passed_budgets"] == []


# --- suggestions


async def test_a_denial_names_the_largest_output_that_fits_and_it_does(books: Books) -> None:
    await books.limit(7_500_000)  # 0.0075 USD: 1,000 input tokens of gpt-4o and 500 of output
    asked = {"estimated_tokens": None, "input_tokens": 1000}
    (answer,) = await books.ask(check(**asked, max_output_tokens=2000))
    fits = answer["suggestions"]["max_output_tokens"]
    assert (answer["allowed"], fits) == (False, 500)
    (answer,) = await books.ask(check(**asked, max_output_tokens=fits + 1))
    assert not answer["allowed"]
    (answer,) = await books.ask(check(**asked, max_output_tokens=fits))
    assert answer["allowed"]


async def test_a_denial_names_cheaper_models_of_the_provider_and_then_equivalents(books: Books) -> None:
    await books.limit(5_000_000)
    await books.pool.execute(
        "INSERT INTO config (key, value) VALUES ('equivalents', $1)", [["openai/gpt-4o", "deepseek/deepseek-chat"]]
    )
    asked = {"estimated_tokens": None, "input_tokens": 1000, "max_output_tokens": 1000}
    (answer,) = await books.ask(check(**asked))
    named = answer["suggestions"]["alternatives"]
    assert [one["provider"] for one in named] == ["openai", "openai", "openai", "deepseek"]
    assert all(Decimal(one["estimated_cost"]) <= Decimal("0.005") for one in named)
    (other,) = await books.ask(check(**asked, provider=named[0]["provider"], model=named[0]["model"]))
    assert (other["allowed"], other["estimated_cost"]) == (True, named[0]["estimated_cost"])


async def test_a_cheaper_model_whose_own_budget_is_used_up_is_not_named(books: Books) -> None:
    await books.limit(5_000_000)
    asked = {"estimated_tokens": None, "input_tokens": 1000, "max_output_tokens": 1000}
    (before,) = await books.ask(check(**asked))
    first = before["suggestions"]["alternatives"][0]["model"]
    await books.limit(0, scope={"model": first})
    (after,) = await books.ask(check(**asked))
    assert first not in [one["model"] for one in after["suggestions"]["alternatives"]]


async def test_a_soft_limit_degrades_with_a_reason_and_what_would_fit(books: Books) -> None:
    await books.limit(7_500_000, policy=Policy.SOFT_LIMIT)
    (answer,) = await books.ask(check(estimated_tokens=None, input_tokens=1000, max_output_tokens=2000))
    assert (answer["allowed"], answer["action"]) == (True, "degrade")
    assert answer["reason"].startswith("budget 'daily'")
    assert answer["suggestions"]["max_output_tokens"] == 500
    assert answer["suggestions"]["alternatives"]


async def test_where_no_call_of_any_size_fits_nothing_is_suggested(books: Books) -> None:
    await calls(books, 0)
    (answer,) = await books.ask(check(estimated_tokens=None, input_tokens=1000))
    assert answer["suggestions"] == {"max_output_tokens": None, "alternatives": []}
