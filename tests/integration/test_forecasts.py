"""Forecasts as a bookkeeper makes them of the books, what the gateway says of them, their alerts, and plans."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx2
import pytest

from budget_bus.insight.forecasting import Forecaster
from budget_bus.policy.budget import Basis, Budget, Policy, Unit
from budget_bus.policy.windows import Period
from budget_bus.store import forecasts
from budget_bus.store.catalogue import Catalogue
from tests.integration.books import USD, Books, check, usage

NOW = datetime(2026, 3, 10, 12, 7, 30, tzinfo=UTC)
INTERVAL = timedelta(seconds=900)


@dataclass(slots=True)
class Clock:
    """Stands still until it is moved."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def books(pool: asyncpg.Pool, clock: Clock) -> Books:
    return Books(pool, clock=clock)


def forecaster(pool: asyncpg.Pool, clock: Callable[[], datetime]) -> Forecaster:
    return Forecaster(pool, Catalogue(Policy.WARN), INTERVAL, clock)


def every_hour(days: int, *, until: datetime = NOW, **fields: Any) -> list[dict[str, Any]]:
    """1,000 + 100 tokens (0.0035 USD) half past each hour of the last *days*."""
    last = until.replace(minute=30, second=0) - timedelta(hours=1)
    return [usage(occurred_at=(last - timedelta(hours=n)).isoformat(), **fields) for n in range(24 * days)]


async def made(pool: asyncpg.Pool, clock: Callable[[], datetime]) -> int:
    return await forecaster(pool, clock).make_due(asyncio.Event())


async def told(client: httpx2.AsyncClient, path: str = "/api/forecasts", **query: Any) -> dict[str, Any]:
    response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_the_band_and_the_error_are_shown_everywhere(
    books: Books, client: httpx2.AsyncClient, pool: asyncpg.Pool, clock: Clock
) -> None:
    await books.settle(*every_hour(20))
    await books.limit(50 * 3_500_000, name="wide")
    await books.limit(15 * 3_500_000, name="tight", scope={"component": "rhetor"})
    assert await made(pool, clock) == 2
    assert await made(pool, clock) == 0  # nothing is due before the interval is over
    found = {item["name"]: item for item in (await told(client))["items"]}
    wide, tight = found["wide"], found["tight"]
    # Twelve hours are over, of which each brought 0.0035, and twelve are to come, a few minutes of the first are over.
    assert Decimal(wide["spent"]) == Decimal("0.042")
    assert float(wide["forecast"]["expected"]) == pytest.approx(0.084, rel=0.02)
    assert (
        Decimal(wide["forecast"]["low"]) <= Decimal(wide["forecast"]["expected"]) <= Decimal(wide["forecast"]["high"])
    )
    assert float(wide["forecast"]["backtest_error_percent"]) < 1
    assert (wide["runs_out_at"], wide["runs_out_between"]) == (None, None)
    assert wide["forecast"]["backtests"] >= 10
    out = datetime.fromisoformat(tight["runs_out_at"])
    assert abs(out - NOW.replace(hour=15, minute=0, second=0)) < timedelta(minutes=20)
    earliest, latest = (datetime.fromisoformat(tight["runs_out_between"][end]) for end in ("earliest", "latest"))
    assert earliest <= out <= latest
    summary = (await told(client, "/api/reports/summary", days=1))["budgets"]
    assert {one["name"]: one["forecast"] for one in summary} == {n: one["forecast"] for n, one in found.items()}
    assert [one["name"] for one in (await told(client, budget_id=tight["budget_id"]))["items"]] == ["tight"]
    assert [one["name"] for one in (await told(client, component="codex"))["items"]] == ["wide"]


async def test_what_is_shown_is_never_below_what_is_spent(
    books: Books, client: httpx2.AsyncClient, pool: asyncpg.Pool, clock: Clock
) -> None:
    await books.settle(*every_hour(20))
    await books.limit(10 * USD)
    await made(pool, clock)
    await books.settle(*(usage(occurred_at=NOW.isoformat(), input_tokens=1_000_000) for _ in range(3)))
    (one,) = (await told(client))["items"]
    assert Decimal(one["forecast"]["low"]) >= Decimal(one["spent"]) > 7
    clock.now = NOW.replace(hour=12, minute=30)
    (later,) = (await told(client))["items"]
    assert Decimal(later["forecast"]["expected"]) <= Decimal(one["forecast"]["expected"])
    assert Decimal(later["forecast"]["low"]) >= Decimal(later["spent"])


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param({"scope": {"tags": {"team": "a"}}}, "tags", id="tags are in no sum"),
        pytest.param({"period": Period.HOURLY}, "shortest", id="an hour has no parts"),
        pytest.param({"scope": {"component": "new"}}, "too little history", id="nobody knows it yet"),
    ],
)
async def test_what_cannot_be_forecast_is_a_straight_line_and_says_why(
    fields: dict[str, Any], why: str, books: Books, client: httpx2.AsyncClient, clock: Clock
) -> None:
    await books.settle(*every_hour(20))
    await books.limit(USD, **fields)
    await made(books.pool, clock)
    (one,) = (await told(client))["items"]
    assert (one["forecast"]["method"], one["forecast"]["low"], one["runs_out_between"]) == ("run_rate", None, None)
    assert why in one["forecast"]["reason"]


async def test_a_forecast_that_is_old_or_of_another_window_is_not_shown(
    books: Books, client: httpx2.AsyncClient, pool: asyncpg.Pool, clock: Clock
) -> None:
    await books.settle(*every_hour(20))
    await books.limit(USD)
    await made(pool, clock)
    clock.now = NOW + 4 * INTERVAL
    (one,) = (await told(client))["items"]
    assert one["forecast"]["method"] == "run_rate"
    assert "no forecast was made lately" in one["forecast"]["reason"]
    clock.now = NOW + timedelta(days=1)
    (one,) = (await told(client))["items"]
    assert one["forecast"]["method"] == "run_rate"


async def test_a_budget_that_has_run_out_and_one_without_an_end(
    books: Books, client: httpx2.AsyncClient, pool: asyncpg.Pool, clock: Clock
) -> None:
    await books.settle(*every_hour(20))
    await books.limit(3_500_000, name="over")
    await books.limit(500 * 3_500_000, name="endless", period=Period.TOTAL)
    await books.limit(USD, name="contexts", period=Period.PER_CONTEXT, context_ttl_s=60)
    await made(pool, clock)
    found = {item["name"]: item for item in (await told(client))["items"]}
    assert datetime.fromisoformat(found["over"]["runs_out_at"]) == NOW
    assert found["endless"]["forecast"] is None
    # 480 of 500 are spent: twenty hours more.
    left = datetime.fromisoformat(found["endless"]["runs_out_at"]) - NOW
    assert abs(left - timedelta(hours=20)) < timedelta(hours=1)
    assert found["contexts"]["forecast"] is None


async def test_other_units_and_removed_budgets(
    books: Books, client: httpx2.AsyncClient, pool: asyncpg.Pool, clock: Clock
) -> None:
    await books.settle(*every_hour(20))
    await books.limit(100, name="calls", unit=Unit.REQUESTS)
    gone = await books.limit(10**6, name="tokens", unit=Unit.TOKENS)
    await made(pool, clock)
    found = {item["name"]: item["forecast"] for item in (await told(client))["items"]}
    assert int(found["calls"]["expected"]) == pytest.approx(24, abs=1)
    assert int(found["tokens"]["expected"]) == pytest.approx(24 * 1100, abs=1100)
    assert (await client.delete(f"/api/limits/{gone.budget_id}")).status_code < 300
    await made(pool, clock)
    assert [row["budget_id"] for row in await pool.fetch("SELECT DISTINCT budget_id FROM forecast")] != []
    assert gone.budget_id not in {row["budget_id"] for row in await pool.fetch("SELECT budget_id FROM forecast")}


async def alerts(pool: asyncpg.Pool) -> list[tuple[str, int]]:
    rows = await pool.fetch("SELECT payload FROM alert ORDER BY raised_at, threshold_percent")
    found = [row["payload"] for row in rows if row["payload"]["basis"] == "forecast"]
    sent = await pool.fetchval("SELECT count(*) FROM outbox WHERE topic = 'budget.alerts'")
    assert sent == len(rows)
    return [(one["type"], one["threshold_percent"]) for one in found]


async def watched(books: Books, **fields: Any) -> Budget:
    """A day comes to 24 calls; the first threshold is at 20 of them, of which 12 are spent."""
    return await books.limit(25 * 3_500_000, thresholds=(80,), policy=Policy.WARN, alert_on=(Basis.FORECAST,), **fields)


async def test_a_forecast_that_passes_a_threshold_is_alerted_once(
    books: Books, client: httpx2.AsyncClient, pool: asyncpg.Pool, clock: Clock
) -> None:
    await books.settle(*every_hour(20))
    budget = await watched(books)
    for _ in range(4):
        await made(pool, clock)
        clock.now += INTERVAL
    assert await alerts(pool) == [("cost_limit_approaching", 80)]
    (alert,) = (await told(client, "/api/alerts"))["items"]
    assert (alert["basis"], alert["budget_id"]) == ("forecast", str(budget.budget_id))
    assert "is forecast to come to 0.08" in alert["message"]


async def test_a_series_that_wobbles_about_a_threshold_alerts_once(
    books: Books, pool: asyncpg.Pool, clock: Clock
) -> None:
    await books.settle(*every_hour(20))
    await watched(books)
    work = forecaster(pool, clock)
    (budget,) = [one for one in await _budgets(pool)]
    limit = budget.spec.limit
    async with pool.acquire() as connection:
        for amount in (79, 81, 82, 79, 81, 78, 80, 83, 79, 81, 77, 84):
            stored = forecasts.Stored(
                budget.window(clock.now).start, clock.now, "ets_daily", None, expected=limit * amount // 100, low=0
            )
            assert await work.write(connection, budget, budget.window(clock.now), [stored], now=clock.now)
            clock.now += INTERVAL
    assert await alerts(pool) == [("cost_limit_approaching", 80)]


async def test_it_recovers_when_it_is_clearly_below(books: Books, pool: asyncpg.Pool, clock: Clock) -> None:
    await books.settle(*every_hour(20))
    await watched(books)
    work = forecaster(pool, clock)
    (budget,) = await _budgets(pool)
    async with pool.acquire() as connection:
        for amount in (81, 82, 60, 60, 60, 85, 85):
            stored = forecasts.Stored(
                budget.window(clock.now).start, clock.now, "ets_daily", None,
                expected=budget.spec.limit * amount // 100, low=0,
            )  # fmt: skip
            await work.write(connection, budget, budget.window(clock.now), [stored], now=clock.now)
            clock.now += INTERVAL
    assert await alerts(pool) == [("cost_limit_approaching", 80), ("cost_limit_recovered", 80)]


async def _budgets(pool: asyncpg.Pool) -> tuple[Budget, ...]:
    catalogue = Catalogue(Policy.WARN)
    async with pool.acquire() as connection:
        await catalogue.refresh(connection)
    return catalogue.budgets


async def test_two_bookkeepers_make_each_forecast_once(books: Books, pool: asyncpg.Pool, clock: Clock) -> None:
    await books.settle(*every_hour(20))
    await watched(books)
    await watched(books, scope={"component": "rhetor"})
    async with asyncio.TaskGroup() as group:
        counts = [group.create_task(made(pool, clock)) for _ in range(2)]
    assert sum(task.result() for task in counts) == 2
    clock.now += INTERVAL
    async with asyncio.TaskGroup() as group:
        counts = [group.create_task(made(pool, clock)) for _ in range(2)]
    assert sum(task.result() for task in counts) == 2
    assert await alerts(pool) == [("cost_limit_approaching", 80)] * 2


async def test_two_that_write_at_once_are_one(books: Books, pool: asyncpg.Pool, clock: Clock) -> None:
    await books.settle(*every_hour(20))
    budget = await watched(books)
    window = budget.window(NOW)
    stored = forecasts.Stored(window.start, NOW, "ets_daily", None, expected=budget.spec.limit, low=0)

    async def write() -> bool:
        (current,) = await _budgets(pool)
        async with pool.acquire() as connection:
            return await forecaster(pool, clock).write(connection, current, window, [stored], now=NOW)

    async with asyncio.TaskGroup() as group:
        wrote = [group.create_task(write()) for _ in range(2)]
    assert sorted(task.result() for task in wrote) == [False, True]
    assert await alerts(pool) == []


async def test_a_limit_that_was_changed_meanwhile_is_not_written(
    books: Books, pool: asyncpg.Pool, clock: Clock
) -> None:
    budget = await watched(books)
    stored = forecasts.Stored(budget.window(NOW).start, NOW, "ets_daily", None, expected=1, low=0)
    await books.limit(7)
    async with pool.acquire() as connection:
        assert not await forecaster(pool, clock).write(connection, budget, budget.window(NOW), [stored], now=NOW)
    assert await pool.fetchval("SELECT count(*) FROM forecast") == 0


async def test_how_much_may_be_planned(
    books: Books, client: httpx2.AsyncClient, pool: asyncpg.Pool, clock: Clock
) -> None:
    await books.settle(*every_hour(20, component="codex"), *every_hour(20, component="apollo"))
    shared = await books.limit(100 * 3_500_000, name="shared")
    await books.limit(1000 * 3_500_000, name="own", scope={"component": "apollo"})
    await books.limit(10, name="openai", scope={"provider": "openai"})
    await books.limit(1, name="a shadow", scope={"component": ["apollo", "codex"]}, shadow=True)
    await books.limit(1, name="no hard limit", period=Period.WEEKLY, policy=Policy.WARN)
    await made(pool, clock)
    until = (NOW + timedelta(hours=6)).isoformat()
    answer = await told(client, "/api/plan", component="apollo", until=until, confidence=0.9)
    found = {one["name"]: one for one in answer["budgets"]}
    assert found.keys() == {"shared", "own", "openai"}
    # 100 less the 24 that both have used less the six that codex is going to.
    assert float(answer["amount"]) == pytest.approx(70 * 0.0035, rel=0.02)
    assert (answer["binding_budget"], found["shared"]["binding"]) == (str(shared.budget_id), True)
    assert (answer["backed"], found["own"]["others"], found["openai"]["counts"]) == (True, "0", False)
    assert "provider" in found["openai"]["explanation"]
    assert answer["sentence"].startswith(f"apollo may plan to spend up to {answer['amount']} USD until ")
    named = await told(client, "/api/plan", component="apollo", until=until, provider="OpenAI")
    assert (named["amount"], named["sentence"][-22:]) == ("0", "budget 'openai' binds.")
    # Whoever is new shares with both; and what is held is not there for anybody.
    newcomer = await told(client, "/api/plan", component="ergon", until=until)
    assert float(newcomer["amount"]) == pytest.approx(64 * 0.0035, rel=0.02)
    nobody = await told(client, "/api/plan", component="apollo", until=(NOW + timedelta(hours=30)).isoformat())
    assert found["shared"]["windows"] == 1
    assert next(one for one in nobody["budgets"] if one["name"] == "shared")["windows"] == 2


async def test_a_plan_counts_what_is_held_and_what_an_allocation_leaves(
    books: Books, client: httpx2.AsyncClient, pool: asyncpg.Pool, clock: Clock
) -> None:
    await books.settle(*every_hour(20))
    parent = await books.limit(USD, name="all")
    await books.limit(0, name="part", scope={"component": "apollo"}, parent_id=parent.budget_id, percent=Decimal(10))
    await made(pool, clock)
    until = (NOW + timedelta(hours=6)).isoformat()
    answer = await told(client, "/api/plan", component="apollo", until=until)
    assert answer["amount"] == "0.1"
    await books.ask(check(component="apollo"))
    assert (await told(client, "/api/plan", component="apollo", until=until))["amount"] == "0.09"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        pytest.param({"until": "2026-03-10T12:00:00Z"}, "until", id="until before now"),
        pytest.param({"until": "2028-03-10T12:00:00Z"}, "until", id="until in years"),
        pytest.param({"until": "tomorrow"}, "until", id="until in words"),
        pytest.param({}, "until", id="until never"),
        pytest.param({"until": "2026-03-11T12:00:00Z", "confidence": "1"}, "confidence", id="certainty"),
        pytest.param({"until": "2026-03-11T12:00:00Z", "component": ""}, "component", id="of nobody"),
    ],
)
async def test_a_plan_that_cannot_be_is_refused(client: httpx2.AsyncClient, query: dict[str, str], field: str) -> None:
    response = await client.get("/api/plan", params={"component": "apollo", **query})
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_without_a_bookkeeper_a_plan_keeps_the_present_rate_and_says_so(
    books: Books, client: httpx2.AsyncClient
) -> None:
    await books.settle(*every_hour(20))
    await books.limit(USD)
    answer = await told(client, "/api/plan", component="apollo", until=(NOW + timedelta(hours=6)).isoformat())
    assert answer["backed"] is False
    assert "at the present rate of all others" in answer["sentence"]
