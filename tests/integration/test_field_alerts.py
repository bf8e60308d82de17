"""
What users of other budget services saw of alerts that flooded them or never came, told again of this one.

Each test says whose complaint it is. What counts is what leaves: the messages that wait for the relay.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from budget_bus.policy.budget import Policy
from tests.integration.books import COST, Books, check, usage


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


def turn(books: Books, at: datetime) -> None:
    """Stop the clock of the consumers at *at*."""
    books.clock = lambda: at


async def alerts(books: Books) -> list[dict[str, Any]]:
    """The alerts of thresholds that have left, in their order."""
    rows = await books.pool.fetch("SELECT value FROM outbox WHERE topic = 'budget.alerts' ORDER BY outbox_id")
    said = [json.loads(row["value"]) for row in rows]
    return [alert for alert in said if alert["threshold_percent"]]


async def percents(books: Books) -> list[int]:
    return [alert["threshold_percent"] for alert in await alerts(books)]


async def test_a_hundred_calls_over_the_threshold_alert_once(books: Books) -> None:
    """Every request after the crossing sent the alert again: BerriAI/litellm #3738, #3113."""
    await books.limit(2 * COST, policy=Policy.WARN, thresholds=(100,))
    for _ in range(20):
        # Each batch is a settler's first, as after a restart: nothing in memory keeps the alert from coming again.
        await books.settle(*(usage() for _ in range(5)))
    assert await percents(books) == [100]


async def test_settlers_that_cross_a_threshold_together_alert_once(books: Books) -> None:
    """Repeated alerts filled a channel, here with four settlers at once: BerriAI/litellm #3113."""
    await books.limit(10 * COST, policy=Policy.WARN, thresholds=(50, 100))

    async def spend(part: int) -> None:
        settler = books.settler()
        for _ in range(5):
            await books.settle(usage(), part=part, by=settler)

    await asyncio.gather(*(spend(part) for part in range(4)))
    assert sorted(await percents(books)) == [50, 100]


async def test_a_teams_alert_comes_once_however_many_members_call(books: Books) -> None:
    """
    A team's alert was kept apart by the key that called: BerriAI/litellm #27398.

    Each key of the team sent it, and it was switched off in production.
    """
    team = {"tags": {"team": "x"}}
    await books.limit(2 * COST, policy=Policy.WARN, scope=team, thresholds=(100,))
    for number in range(30):
        await books.settle(usage(user=f"member-{number}", component=f"tool-{number % 5}", **team))
    (alert,) = await alerts(books)
    assert (alert["scope"], alert["threshold_percent"]) == ({"tags": {"team": "x"}}, 100)


@pytest.mark.parametrize("policy", [Policy.WARN, Policy.SOFT_LIMIT, Policy.HARD_LIMIT])
async def test_a_soft_budget_alerts_as_a_hard_one_does(books: Books, policy: Policy) -> None:
    """The alert of a soft budget was never sent: BerriAI/litellm #35800."""
    await books.limit(COST, policy=policy, thresholds=(100,))
    await books.settle(usage())
    (alert,) = await alerts(books)
    assert (alert["type"], alert["severity"]) == ("cost_limit_exceeded", "error")


async def test_an_end_users_budget_alerts_and_names_the_user(books: Books) -> None:
    """There were no alerts for end users: BerriAI/litellm PR 22279."""
    await books.limit(COST, policy=Policy.WARN, scope={"user": "ada"}, thresholds=(100,))
    await books.settle(usage(user="ben"), usage(user="ada"))
    (alert,) = await alerts(books)
    assert alert["scope"] == {"user": "ada"}


async def test_each_threshold_alerts_once_in_a_window_and_again_in_the_next(books: Books) -> None:
    """Several thresholds, each once in a period, had to be asked for: BerriAI/litellm #32597."""
    await books.limit(10 * COST, policy=Policy.WARN, thresholds=(20, 50, 90))
    noon = datetime(2027, 3, 2, 12, tzinfo=UTC)
    for day in range(2):
        turn(books, noon + timedelta(days=day))
        for _ in range(10):
            await books.settle(usage())
    assert await percents(books) == [20, 50, 90] * 2
    assert len({alert["alert_id"] for alert in await alerts(books)}) == 6
    assert [alert["window_start"] for alert in await alerts(books)] == (
        ["2027-03-02T00:00:00Z"] * 3 + ["2027-03-03T00:00:00Z"] * 3
    )


async def test_alerts_come_before_the_budget_is_exhausted_and_calls_fail(books: Books) -> None:
    """Users want to hear of it 15 % and 5 % before the budget is exhausted: BerriAI/litellm #1612."""
    await books.limit(20 * COST, thresholds=(85, 95))
    await books.settle(*(usage() for _ in range(17)))
    assert await percents(books) == [85]
    assert (await books.ask(check()))[0]["allowed"]
    await books.settle(usage(), usage())
    assert await percents(books) == [85, 95]
    assert [alert["severity"] for alert in await alerts(books)] == ["warning", "warning"]
    assert [alert["spent"] for alert in await alerts(books)] == ["0.0595", "0.0665"]
