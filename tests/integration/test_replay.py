"""The past decided again: with the limits of then it is what production decided, in the order of the locks alone."""

from __future__ import annotations

import random
from datetime import datetime

import asyncpg

from budget_bus.insight.replay import Outcome, Proposal, replay
from budget_bus.providers.prices import PriceBook
from tests.integration.clock import NOON, Clock
from tests.integration.story import Story


async def lived(pool: asyncpg.Pool, rounds: int, seed: int = 7) -> Story:
    story = Story(pool, Clock(), random.Random(seed))
    await story.set_limits()
    story.clock.turn(seconds=1)
    await story.live(rounds)
    return story


async def replayed(pool: asyncpg.Pool, start: datetime, end: datetime, proposal: Proposal | None = None) -> Outcome:
    return await replay(pool, PriceBook(), start=start, end=end, proposal=proposal or Proposal())


def assert_same(outcome: Outcome, at_least: int) -> None:
    checks = outcome.checks
    assert outcome.differences == []
    assert checks.decided >= at_least
    assert (checks.identical, checks.same_balances) == (checks.decided, checks.decided)
    assert (checks.refused, checks.allowed, checks.not_replayable) == (0, 0, 0)


async def test_the_real_past_with_todays_limits_is_what_production_decided(pool: asyncpg.Pool) -> None:
    story = await lived(pool, 70)
    await story.books.assert_exact()
    outcome = await replayed(pool, NOON, story.clock.at)
    assert_same(outcome, 1000)
    actions = {row["action"] for row in await pool.fetch("SELECT DISTINCT action FROM decision")}
    assert actions >= {"allow", "warn", "degrade", "deny"}
    kinds = {row["kind"] for row in await pool.fetch("SELECT DISTINCT kind FROM movement")}
    assert kinds == {"settled", "voided", "expired", "given_back", "carried"}
    # Also from the middle of it, with what was spent, held and carried until then.
    for part in (0.3, 0.7):
        assert_same(await replayed(pool, NOON + part * (story.clock.at - NOON), story.clock.at), 100)


async def test_without_the_order_of_the_locks_it_would_be_another_past(pool: asyncpg.Pool) -> None:
    story = await lived(pool, 25)
    assert_same(await replayed(pool, NOON, story.clock.at), 300)
    await pool.execute(
        "CREATE TEMPORARY TABLE by_time AS SELECT id, row_number() OVER (ORDER BY at, id) AS n FROM ("
        " SELECT request_id::text AS id, decided_at AS at FROM decision WHERE seq IS NOT NULL"
        " UNION ALL SELECT ctid::text, at FROM movement) AS things;"
        "UPDATE movement SET seq = n FROM by_time WHERE id = movement.ctid::text;"
        "UPDATE decision SET seq = n FROM by_time WHERE id = request_id::text"
    )
    checks = (await replayed(pool, NOON, story.clock.at)).checks
    assert checks.same_balances < checks.decided
