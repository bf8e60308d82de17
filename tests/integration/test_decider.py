"""The decider's guarantees: no limit is overshot, one answer per question, nothing placed after the deadline."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from budget_bus.consumers.checks import Rules
from budget_bus.errors import Fenced
from budget_bus.events.checks import CheckResponse
from budget_bus.events.topics import CHECK_REQUESTED, USAGE_RECORDED
from budget_bus.policy.budget import Balance, Policy, Unit
from budget_bus.policy.windows import Period
from budget_bus.store import balances
from tests.integration.books import BOUND, COST, USD, Books, check, usage


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


async def test_an_allowed_check_holds_its_upper_bound_on_every_budget(books: Books) -> None:
    daily = await books.limit(10 * USD)
    tokens = await books.limit(5000, unit=Unit.TOKENS, policy=Policy.IGNORE)
    other = await books.limit(10 * USD, scope={"component": "ergon"})
    (answer,) = await books.ask(check())
    response = CheckResponse.model_validate(answer)
    assert (response.allowed, response.action, response.estimated_cost) == (True, "allow", "0.01")
    assert response.hold is not None
    assert response.hold.amount == "0.01"
    assert await books.balance(daily) == (0, BOUND, 0)
    assert await books.balance(tokens) == (0, 1000, 0)
    assert await books.balance(other) == (0, 0, 0)
    assert [(line.unit, line.held) for line in response.budgets] == [("cost", "0.01"), ("tokens", "1000")]


async def test_a_denial_names_the_budget_that_frees_up_last_and_holds_nothing(books: Books) -> None:
    await books.limit(BOUND - 1, name="tight")
    roomy = await books.limit(10 * USD, scope={"component": "rhetor"}, name="roomy")
    (answer,) = await books.ask(check())
    assert (answer["allowed"], answer["action"]) == (False, "deny")
    (binding,) = [line for line in answer["budgets"] if line["binding"]]
    assert binding["name"] == "tight"
    assert answer["binding_budget"] == binding["budget_id"]
    assert answer["resets_at"] == binding["window_end"]
    assert answer["retry_after_s"] > 0
    assert (answer["policy_type"], answer["period"], answer["usage"]) == ("hard_limit", "daily", "0")
    assert await books.balance(roomy) == (0, 0, 0)
    assert await books.pool.fetchval("SELECT count(*) FROM hold") == 0


@pytest.mark.parametrize(
    ("policy", "action", "allowed"),
    [("IGNORE", "allow", True), ("WARN", "warn", True), ("SOFT_LIMIT", "degrade", True), ("HARD_LIMIT", "deny", False)],
)
async def test_each_policy_over_its_limit(books: Books, policy: str, action: str, allowed: bool) -> None:
    await books.limit(1, policy=Policy(policy))
    (answer,) = await books.ask(check())
    assert (answer["action"], answer["allowed"]) == (action, allowed)
    assert bool(answer["warnings"]) is (policy != "IGNORE")


async def test_a_repeated_question_gets_the_same_bytes_and_no_second_hold(books: Books) -> None:
    budget = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked, asked)
    await books.ask(asked, part=1, by=books.decider())
    assert len({reply.value for reply in books.replies}) == 1
    assert len(books.replies) == 3
    assert await books.balance(budget) == (0, BOUND, 0)


async def test_the_same_id_for_another_question_is_a_conflict(books: Books) -> None:
    await books.limit(10 * USD)
    asked = check()
    await books.ask(asked, {**asked, "estimated_tokens": 7})
    assert [dict(reply.headers).get("error") for reply in books.replies] == [None, b"conflict"]
    assert await books.pool.fetchval("SELECT count(*) FROM hold") == 1


async def test_a_question_read_after_its_deadline_places_nothing_and_is_not_remembered(books: Books) -> None:
    budget = await books.limit(10 * USD)
    asked = check(deadline=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    (late,) = await books.ask(asked)
    assert (late["action"], late["reason"], late["hold"]) == ("deny", "expired", None)
    assert await books.balance(budget) == (0, 0, 0)
    (afresh,) = await books.ask({**asked, "deadline": (datetime.now(UTC) + timedelta(seconds=60)).isoformat()})
    assert afresh["allowed"]
    assert await books.balance(budget) == (0, BOUND, 0)


async def test_a_check_without_hold_is_decided_and_holds_nothing(books: Books) -> None:
    budget = await books.limit(10 * USD)
    (answer,) = await books.ask(check(hold=False))
    assert (answer["allowed"], answer["hold"]) == (True, None)
    assert await books.balance(budget) == (0, 0, 0)


async def test_an_unpriced_model_is_denied_by_a_hard_cost_budget_only(books: Books) -> None:
    await books.limit(5000, unit=Unit.TOKENS)
    (allowed,) = await books.ask(check(model="no-such-model"))
    assert (allowed["allowed"], allowed["price_status"], allowed["estimated_cost"]) == (True, "unpriced", None)
    await books.limit(10 * USD)
    (denied,) = await books.ask(check(model="no-such-model"))
    assert not denied["allowed"]
    assert denied["reason"].startswith("unpriced")


async def test_an_operators_fallback_price_admits_an_unpriced_model(books: Books) -> None:
    await books.limit(10 * USD)
    books.use_fallback_price = True
    (answer,) = await books.ask(check(model="no-such-model"))
    assert (answer["allowed"], answer["price_status"], answer["estimated_cost"]) == (True, "fallback", "0.015")


async def test_decisions_say_when_usage_is_behind(books: Books) -> None:
    await books.limit(10 * USD)
    await books.claim(USAGE_RECORDED, 0)
    await books.pool.execute("UPDATE bus_offset SET watermark_at = now() - interval '1 minute' WHERE topic = $1",
                             USAGE_RECORDED)  # fmt: skip
    (answer,) = await books.ask(check())
    assert (answer["stale"], answer["allowed"]) == (True, True)
    books.rules = Rules(hold_ttl_s=600, stale_after_s=30, deny_when_stale=True)
    (answer,) = await books.ask(check())
    assert (answer["stale"], answer["allowed"]) == (True, False)
    assert answer["reason"].startswith("stale")


async def test_a_broken_question_is_a_dead_letter_and_its_neighbours_are_answered(books: Books) -> None:
    answers = await books.ask(check(), {"component": "rhetor"}, check())
    assert len(answers) == 2
    row = await books.pool.fetchrow("SELECT * FROM outbox WHERE topic = 'check.requested.dlq'")
    reason = dict(zip(row["header_names"], row["header_values"], strict=True))["dlq_reason"].decode()
    assert "request_id: is required" in reason


async def test_the_asker_of_a_broken_question_is_told_at_once(books: Books) -> None:
    answers = await books.ask({"component": "rhetor"}, headers=[("correlation_id", b"c-1"), ("reply_partition", b"3")])
    assert "request_id: is required" in answers[0]["detail"]
    (reply,) = books.replies
    assert (reply.partition, dict(reply.headers)) == (3, {"correlation_id": b"c-1", "error": b"invalid"})


async def test_a_zombie_decider_answers_nothing(books: Books) -> None:
    await books.limit(10 * USD)
    await books.ask(check())
    zombie = await books.batch(CHECK_REQUESTED, [check()])
    await books.claim(CHECK_REQUESTED, 0, owner="successor")
    with pytest.raises(Fenced):
        await books.decider().apply(zombie, None)
    assert len(books.replies) == 1
    assert await books.pool.fetchval("SELECT count(*) FROM hold") == 1


async def test_a_changed_limit_holds_from_the_next_decision_on(books: Books) -> None:
    judge = books.decider()
    await books.limit(BOUND)
    assert [a["allowed"] for a in await books.ask(check(), check(), by=judge)] == [True, False]
    await books.limit(2 * BOUND)
    assert [a["allowed"] for a in await books.ask(check(), check(), by=judge)] == [True, False]
    await books.limit(0)
    assert [a["allowed"] for a in await books.ask(check(), by=judge)] == [False]


async def test_spent_money_counts_against_the_next_check(books: Books) -> None:
    await books.limit(BOUND + COST)
    await books.settle(usage(), usage())
    assert [a["allowed"] for a in await books.ask(check())] == [False]


async def _storm(books: Books, *, checks: int, deciders: int) -> list[dict[str, Any]]:
    async def stream(part: int) -> list[dict[str, Any]]:
        judge, answers = books.decider(), []
        for _ in range(checks // deciders // 10):
            batch = await books.batch(CHECK_REQUESTED, [check(user=str(uuid.uuid4())) for _ in range(10)], part=part)
            sent: list[Any] = []
            judge.send = sent.append
            await judge.apply(batch, None)
            books.applied(batch)
            answers += [CheckResponse.model_validate_json(reply.value).model_dump() for reply in sent]
        return answers

    return [answer for part in await asyncio.gather(*(stream(p) for p in range(deciders))) for answer in part]


@pytest.mark.parametrize(("unit", "each"), [(Unit.COST, BOUND), (Unit.TOKENS, 1000), (Unit.REQUESTS, 1)])
async def test_a_limit_for_100_calls_admits_exactly_100_of_1000_by_4_deciders(
    books: Books, unit: Unit, each: int
) -> None:
    flat = await books.limit(100 * each, unit=unit)
    nested = await books.limit(150 * each, unit=unit, scope={"component": "rhetor"})
    answers = await _storm(books, checks=1000, deciders=4)
    assert len(answers) == 1000
    assert sum(answer["allowed"] for answer in answers) == 100
    assert await books.balance(flat) == (0, 100 * each, 0)
    assert await books.balance(nested) == (0, 100 * each, 0)
    assert await books.pool.fetchval("SELECT count(*) FROM hold") == 100
    await books.assert_exact()


async def test_without_the_row_lock_the_limit_is_overshot(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard has a guard: read without FOR UPDATE, all at the same moment, and the storm admits more than fits."""
    together = asyncio.Barrier(4)

    async def look(connection: asyncpg.Connection, balance_ids: Any) -> dict[int, Balance]:
        rows = await connection.fetch("SELECT * FROM balance WHERE balance_id = ANY ($1)", sorted(set(balance_ids)))
        await together.wait()
        return {row["balance_id"]: Balance(row["spent"], row["held"], row["unconfirmed"]) for row in rows}

    await books.limit(100, unit=Unit.REQUESTS)
    monkeypatch.setattr(balances, "lock", look)
    answers = await _storm(books, checks=1000, deciders=4)
    assert sum(answer["allowed"] for answer in answers) > 100


async def test_open_holds_count_against_a_budget_that_is_made_or_changed_under_them(books: Books) -> None:
    await books.limit(BOUND + 1)
    assert (await books.ask(check()))[0]["allowed"]
    moved = await books.limit(BOUND + 1, timezone="Asia/Kathmandu")
    assert (await books.balance(moved))[1] == BOUND
    made = await books.limit(BOUND + 1, period=Period.HOURLY)
    assert (await books.balance(made))[1] == BOUND
    assert not (await books.ask(check()))[0]["allowed"]
    await books.settle(usage())
    assert await books.balance(moved) == (COST, 0, 0)
    assert await books.balance(made) == (COST, 0, 0)
    await books.assert_exact()


async def test_a_free_model_may_be_used_when_everything_is_spent(books: Books) -> None:
    await books.limit(COST)
    await books.settle(usage(), usage())
    (answer,) = await books.ask(check(provider="ollama", model="llama3"))
    assert (answer["allowed"], answer["price_status"]) == (True, "free")


async def test_decisions_are_stale_before_usage_was_ever_read_to_its_end(books: Books) -> None:
    await books.claim(USAGE_RECORDED, 0)
    (answer,) = await books.ask(check())
    assert answer["stale"]
