"""The settler's guarantees, on PostgreSQL 15 and 18: each event once, in its own window, with its neighbours."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from budget_bus.consumers.usage import Settler
from budget_bus.errors import Fenced
from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.policy.budget import Policy, Unit
from budget_bus.policy.windows import Period
from budget_bus.settings import load_settings
from budget_bus.store import fence, ledger
from budget_bus.store.migrate import migrate
from budget_bus.store.pool import open_pool
from tests.integration.books import BOUND, COST, USD, Books, check, usage


@pytest.fixture(params=["postgres_url", "postgres15_url"])
def server_url(request: pytest.FixtureRequest) -> str:
    """Each supported server."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
async def books(server_url: str) -> AsyncIterator[Books]:
    """Books on a fresh database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(server_url)
    await admin.execute(f'CREATE DATABASE "{name}"')
    url = f"{server_url.rsplit('/', 1)[0]}/{name}"
    await migrate(url)
    settings = load_settings({}, env_file=Path(os.devnull), database_url=url)
    async with open_pool(settings, size=8) as pool:
        yield Books(pool)
    await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


async def _ledger(books: Books) -> list[Any]:
    return list(await books.pool.fetch("SELECT * FROM ledger ORDER BY part, record_offset"))


async def _letters(books: Books) -> list[dict[str, Any]]:
    rows = await books.pool.fetch("SELECT * FROM outbox WHERE topic LIKE '%.dlq' ORDER BY outbox_id")
    return [
        {"value": row["value"], "key": row["key"], **dict(zip(row["header_names"], row["header_values"], strict=True))}
        for row in rows
    ]


async def test_an_event_is_in_ledger_rollup_and_balance(books: Books) -> None:
    budget = await books.limit(10 * USD)
    await books.settle(usage(), usage(task_type="code", user="ada", tags={"team": "x"}))
    assert [row["cost_nanos"] for row in await _ledger(books)] == [COST, COST]
    assert await books.balance(budget) == (2 * COST, 0, 0)
    await books.assert_exact()


async def test_a_duplicate_is_counted_once_within_and_across_batches(books: Books) -> None:
    event = usage()
    await books.settle(event, event)
    await books.settle(event)
    assert len(await _ledger(books)) == 1
    assert await _letters(books) == []
    await books.assert_exact()


async def test_a_duplicate_days_later_without_its_time_is_counted_once(books: Books) -> None:
    event = usage()
    await books.settle(event)
    await books.pool.execute("UPDATE ledger SET occurred_at = occurred_at - interval '9 days'")
    await books.settle(event)
    assert len(await _ledger(books)) == 1


async def test_the_same_id_with_another_content_is_a_conflict_in_the_dead_letters(books: Books) -> None:
    event = usage()
    await books.settle(event, {**event, "output_tokens": 101}, usage())
    assert [row["output_tokens"] for row in await _ledger(books)] == [100, 100]
    (letter,) = await _letters(books)
    assert letter["dlq_reason"] == b"conflict"
    assert json.loads(letter["value"])["output_tokens"] == 101


async def test_a_broken_message_is_a_dead_letter_and_its_neighbours_are_counted(books: Books) -> None:
    broken = b'\xff{"component": "rhetor"'
    await books.settle(usage(), broken, usage(component="nul\x00"), usage(input_tokens=-1), usage())
    assert len(await _ledger(books)) == 2
    letters = await _letters(books)
    assert [letter["dlq_offset"] for letter in letters] == [b"1", b"2", b"3"]
    assert letters[0]["value"] == broken
    assert letters[0]["key"] == b"rhetor"
    assert letters[0]["dlq_topic"] == USAGE_RECORDED.encode()
    assert b"component" in letters[1]["dlq_reason"]
    assert b"input_tokens" in letters[2]["dlq_reason"]
    await books.assert_exact()


async def test_a_zombie_batch_changes_nothing(books: Books) -> None:
    await books.settle(usage())
    zombie = await books.batch(USAGE_RECORDED, [usage()])
    await books.claim(USAGE_RECORDED, 0, owner="successor")
    with pytest.raises(Fenced):
        await books.settler().apply(zombie, None)
    assert len(await _ledger(books)) == 1


async def test_records_that_were_applied_cannot_be_applied_again(books: Books) -> None:
    # Without an event_id nothing but the offset's compare-and-set tells them apart.
    batch = await books.batch(USAGE_RECORDED, [{k: v for k, v in usage().items() if k != "event_id"}])
    await books.settler().apply(batch, None)
    with pytest.raises(Fenced):
        await books.settler().apply(batch, None)
    assert len(await _ledger(books)) == 1


async def test_without_the_fence_a_zombie_would_write(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard has a guard: with the compare-and-set switched off the two tests above would find a second row."""
    await books.settle(usage())
    zombie = await books.batch(USAGE_RECORDED, [usage()])
    await books.claim(USAGE_RECORDED, 0, owner="successor")

    enter = fence.enter

    async def unfenced(connection: Any, topic: str, _moves: Any) -> fence.Entry:
        return await enter(connection, topic)

    monkeypatch.setattr(fence, "enter", unfenced)
    await books.settler().apply(zombie, None)
    assert len(await _ledger(books)) == 2


async def test_without_the_dedup_a_duplicate_would_stop_the_batch(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard has a guard: the ledger's key is the last judge, so even then nothing is counted twice."""

    async def nothing_known(*_: Any) -> dict[Any, Any]:
        return {}

    event = usage()
    await books.settle(event)
    monkeypatch.setattr(ledger, "known", nothing_known)
    with pytest.raises(Exception, match="another consumer"):
        await books.settle(event)
    assert len(await _ledger(books)) == 1
    await books.assert_exact()


async def test_a_crash_before_the_commit_leaves_nothing_and_the_batch_comes_again(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = await books.limit(10 * USD)
    batch = await books.batch(USAGE_RECORDED, [usage(), b"broken"])
    with monkeypatch.context() as patch:

        async def crash(*_: Any) -> None:
            raise ConnectionResetError("the power went out")

        patch.setattr("budget_bus.consumers.usage.Booking.move_balances", crash)
        with pytest.raises(ConnectionResetError):
            await books.settler().apply(batch, None)
    assert await _ledger(books) == []
    assert await _letters(books) == []
    await books.settler().apply(batch, None)
    assert await books.balance(budget) == (COST, 0, 0)
    assert len(await _letters(books)) == 1


async def test_a_late_event_is_counted_in_the_window_it_happened_in(books: Books) -> None:
    budget = await books.limit(10 * USD)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    await books.settle(usage(occurred_at=yesterday.isoformat()), usage())
    assert await books.balance(budget, yesterday) == (COST, 0, 0)
    assert await books.balance(budget) == (COST, 0, 0)
    assert [row["late"] for row in await _ledger(books)] == [True, False]
    await books.assert_exact()


async def test_an_event_of_the_future_is_refused_with_its_reason(books: Books) -> None:
    soon, later = (datetime.now(UTC) + timedelta(seconds=s) for s in (200, 400))
    await books.settle(usage(occurred_at=soon.isoformat()), usage(occurred_at=later.isoformat()))
    assert len(await _ledger(books)) == 1
    (letter,) = await _letters(books)
    assert letter["dlq_reason"] == b"invalid input; occurred_at: is more than 300 s in the future"


async def test_a_model_without_a_price_is_unpriced_and_never_free(books: Books) -> None:
    cost = await books.limit(10 * USD)
    tokens = await books.limit(10_000, unit=Unit.TOKENS)
    await books.settle(usage(model="no-such-model"))
    (row,) = await _ledger(books)
    assert (row["cost_nanos"], row["price_status"]) == (None, "unpriced")
    assert await books.balance(cost) == (0, 0, 0)
    assert await books.balance(tokens) == (1100, 0, 0)
    rollup = await books.pool.fetchrow("SELECT * FROM rollup")
    assert (rollup["unpriced_requests"], rollup["unpriced_tokens"], rollup["cost_nanos"]) == (1, 1100, 0)


async def test_budgets_count_only_what_their_scope_admits(books: Books) -> None:
    expected = {
        "all": ({}, 4),
        "rhetor": ({"component": "rhetor"}, 3),
        "gpt": ({"model": ["gpt-4*"]}, 3),
        "not-ada": ({"user": {"not": ["ada"]}}, 3),
        "team-x": ({"tags": {"team": "x"}}, 1),
        "google": ({"provider": "google"}, 1),
    }
    budgets = {
        name: await books.limit(1000, name=name, scope=scope, unit=Unit.REQUESTS, policy=Policy.WARN)
        for name, (scope, _) in expected.items()
    }
    await books.settle(
        usage(),
        usage(user="ada"),
        usage(tags={"team": "x"}),
        usage(component="ergon", provider="gemini", model="gemini-1.5-pro"),
    )
    counted = {name: (await books.balance(budget))[0] for name, budget in budgets.items()}
    assert counted == {name: count for name, (_, count) in expected.items()}
    await books.assert_exact()


async def test_a_budget_made_in_mid_window_starts_from_the_ledger_while_events_flow(books: Books) -> None:
    """Settlers of four partitions never pause while budgets are made and changed; none misses or doubles an event."""
    settlers = [books.settler() for _ in range(4)]
    made: list[Any] = []

    async def flow(part: int, settler: Settler) -> None:
        for number in range(25):
            day = datetime.now(UTC) - timedelta(days=number % 3)
            await books.settle(usage(occurred_at=day.isoformat()), usage(user="ada"), part=part, by=settler)

    async def change() -> None:
        for number, period in enumerate([Period.HOURLY, Period.DAILY, Period.WEEKLY, Period.MONTHLY, Period.TOTAL]):
            scope = {"user": "ada"} if number % 2 else {}
            made.append(await books.limit(USD, period=period, scope=scope, name=period.value))
            made.append(
                await books.limit(2 * USD, period=period, scope=scope, name=period.value, timezone="Asia/Tokyo")
            )

    await asyncio.gather(*(flow(part, settler) for part, settler in enumerate(settlers)), change())
    assert len(await _ledger(books)) == 200
    assert len(made) == 10
    total = made[-1]
    assert await books.balance(total) == (200 * COST, 0, 0)
    await books.assert_exact()


async def test_usage_settles_the_hold_it_names(books: Books) -> None:
    budget = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    assert (await books.balance(budget))[1] > 0
    await books.settle(usage(request_id=asked["request_id"]))
    assert await books.balance(budget) == (COST, 0, 0)
    hold = await books.pool.fetchrow("SELECT * FROM hold")
    (row,) = await _ledger(books)
    assert (hold["state"], hold["event_id"]) == ("settled", row["event_id"])
    assert row["accounted_at"] == hold["decided_at"]
    assert not row["unreserved"]


async def test_usage_that_names_none_settles_the_oldest_open_hold_of_its_caller(books: Books) -> None:
    """The seed's example checks and records without an id: it must not be counted twice."""
    budget = await books.limit(10 * USD)
    first, second, other = check(), check(), check(component="ergon")
    for asked in (first, second, other):
        await books.ask(asked)
    await books.settle(usage())
    states = {str(r["request_id"]): r["state"] for r in await books.pool.fetch("SELECT request_id, state FROM hold")}
    assert [states[a["request_id"]] for a in (first, second, other)] == ["settled", "open", "open"]
    spent, held, _ = await books.balance(budget)
    assert (spent, held) == (COST, 2 * 10_000_000)
    await books.assert_exact()


async def test_an_import_of_last_month_settles_no_hold_of_today(books: Books) -> None:
    await books.limit(10 * USD)
    await books.ask(check())
    await books.settle(usage(occurred_at=(datetime.now(UTC) - timedelta(days=30)).isoformat()))
    assert await books.pool.fetchval("SELECT state FROM hold") == "open"


async def test_a_hold_settles_in_the_window_of_its_decision(books: Books) -> None:
    """Midnight between check and usage breaks neither day."""
    budget = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    await books.pool.execute("UPDATE hold SET decided_at = $1", yesterday)
    await books.pool.execute("UPDATE balance SET window_start = window_start - interval '1 day',"
                             " window_end = window_end - interval '1 day'")  # fmt: skip
    await books.settle(usage(request_id=asked["request_id"]))
    assert await books.balance(budget, yesterday) == (COST, 0, 0)
    assert await books.balance(budget) == (0, 0, 0)
    await books.assert_exact()


async def test_usage_without_a_hold_on_a_hard_budget_is_flagged_unreserved(books: Books) -> None:
    await books.limit(10 * USD, scope={"component": "rhetor"})
    await books.settle(usage(), usage(component="ergon"))
    assert [row["unreserved"] for row in await _ledger(books)] == [True, False]


async def test_a_crossing_is_alerted_once(books: Books) -> None:
    await books.limit(2 * COST, policy=Policy.WARN)
    await books.settle(usage())
    await books.settle(usage())
    await books.settle(usage())
    rows = await books.pool.fetch("SELECT threshold_percent, payload FROM alert ORDER BY threshold_percent")
    assert [row["threshold_percent"] for row in rows] == [50, 80, 100]
    assert rows[2]["payload"]["type"] == "cost_limit_exceeded"
    published = await books.pool.fetch("SELECT value FROM outbox WHERE topic = 'budget.alerts'")
    assert len(published) == 3


async def test_what_the_database_refuses_becomes_a_dead_letter(books: Books) -> None:
    batch = await books.batch(USAGE_RECORDED, [usage()])
    await books.settler().apply(batch, "the database refused it: out of range")
    (letter,) = await _letters(books)
    assert letter["dlq_reason"] == b"the database refused it: out of range"
    assert await _ledger(books) == []


async def test_a_lowered_limit_and_one_made_after_the_spending_alert_too(books: Books) -> None:
    await books.limit(10 * USD, policy=Policy.WARN)
    await books.settle(usage())
    await books.limit(COST, policy=Policy.WARN)
    await books.limit(COST, policy=Policy.WARN, scope={"component": "rhetor"}, thresholds=(100,))
    await books.settle(usage())
    await books.settle(usage())
    rows = await books.pool.fetch("SELECT threshold_percent FROM alert ORDER BY threshold_percent")
    assert [row["threshold_percent"] for row in rows] == [50, 80, 100, 100]


async def test_a_limit_shows_at_once_what_was_spent_before_it(books: Books) -> None:
    await books.settle(usage(), usage())
    budget = await books.limit(10 * USD)
    assert await books.balance(budget) == (2 * COST, 0, 0)


async def test_usage_with_a_context_settles_the_oldest_hold_of_that_context(books: Books) -> None:
    budget = await books.limit(10 * USD)
    await books.ask(check(context_id="a"))
    await books.ask(check(context_id="b"))
    await books.settle(usage(context_id="b"))
    rows = await books.pool.fetch("SELECT context_id FROM hold WHERE state = 'open'")
    assert [row["context_id"] for row in rows] == ["a"]
    assert (await books.balance(budget))[1] == BOUND


async def test_usage_that_names_a_hold_and_usage_that_names_none_settle_two(books: Books) -> None:
    budget = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    await books.ask(check())
    await books.settle(usage(request_id=asked["request_id"]), usage())
    assert await books.balance(budget) == (2 * COST, 0, 0)


async def test_texts_do_not_let_cached_tokens_exceed_what_includes_them(books: Books) -> None:
    said = {key: value for key, value in usage().items() if not key.endswith("_tokens")}
    await books.settle({**said, "input_text": "hi", "output_text": "ho", "cache_read_input_tokens": 1_000_000_000})
    assert await _ledger(books) == []
    (letter,) = await _letters(books)
    assert b"cache_read_input_tokens" in letter["dlq_reason"]


async def test_a_budget_is_told_of_a_release_by_an_event_that_it_does_not_count(books: Books) -> None:
    budget = await books.limit(10 * USD, scope={"user": "ann"})
    asked = check(user="ann")
    await books.ask(asked)
    await books.pool.execute("DELETE FROM outbox")
    await books.settle(usage(request_id=asked["request_id"]))
    assert await books.balance(budget) == (0, 0, 0)
    assert await books.pool.fetchval("SELECT count(*) FROM outbox WHERE topic = 'budget.updates'") == 1


async def test_a_hold_that_another_model_settles_leaves_the_next_one_to_usage_without_a_name(books: Books) -> None:
    await books.limit(10 * USD)
    first, second = check(), check()
    await books.ask(first)
    await books.ask(second)
    await books.settle(usage(model="gpt-4o-mini", request_id=first["request_id"]), usage())
    rows = await books.pool.fetch("SELECT state FROM hold")
    assert [row["state"] for row in rows] == ["settled", "settled"]
