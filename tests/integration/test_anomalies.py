"""Anomalies: found in the books, told once, paused by the breaker, and not tripped on twice for the same evidence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest
from aiokafka import AIOKafkaConsumer

from budget_bus.events.facts import BudgetAlert
from budget_bus.http.server import open_parts
from budget_bus.insight.watching import Watcher
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import bookkeeper, decider, outbox_relay, settler
from budget_bus.settings import Settings
from budget_bus.store import anomalies, config, pauses
from budget_bus.store.anomalies import Episode, Finding
from tests.integration.books import Books, check, usage
from tests.integration.clock import Clock
from tests.integration.http_client import client_with
from tests.integration.processes import until

NOW = datetime(2026, 3, 10, 12, 7, 30, tzinfo=UTC)
FLOOR = 10_000_000  # 0.01 dollars
MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def books(pool: asyncpg.Pool, clock: Clock) -> Books:
    return Books(pool, clock=clock)


@pytest.fixture
def watcher(pool: asyncpg.Pool, clock: Clock) -> Watcher:
    return Watcher(pool, floor=FLOOR, clock=clock)


async def steady(books: Books, days: int, **fields: Any) -> None:
    """A call of 0.0035 dollars in every quarter of an hour of the days before the clock's now, but the present one."""
    places = [books.clock() - timedelta(minutes=15 * n + 8) for n in range(days * 96)]
    events = [usage(occurred_at=place.isoformat(), **fields) for place in places]
    for n in range(0, len(events), 1000):
        await books.settle(*events[n : n + 1000])


async def burst(books: Books, calls: int = 60, **fields: Any) -> None:
    """Calls of 0.0035 dollars each, in the last minutes."""
    at = (books.clock() - MINUTE).isoformat()
    await books.settle(*(usage(occurred_at=at, **fields) for _ in range(calls)))


async def loop(books: Books, calls: int = 65, context_id: str = "run-7", start: int = 1000, **fields: Any) -> None:
    """Calls of one context, each with more input than the one before, within the last seconds."""
    events = [
        usage(
            occurred_at=(books.clock() - timedelta(seconds=calls - n)).isoformat(),
            context_id=context_id,
            input_tokens=start + 100 * n,
            **fields,
        )
        for n in range(calls)
    ]
    await books.settle(*events)


async def alerts(pool: asyncpg.Pool) -> list[BudgetAlert]:
    rows = await pool.fetch("SELECT value FROM outbox WHERE topic = 'budget.alerts' ORDER BY outbox_id")
    return [BudgetAlert.model_validate_json(row["value"]) for row in rows]


async def found(watcher: Watcher) -> list[Finding]:
    new = await watcher.look()
    assert new is not None
    return new


async def test_spend_outside_of_the_learned_band_is_told_once(
    books: Books, pool: asyncpg.Pool, watcher: Watcher, clock: Clock
) -> None:
    await steady(books, 2)
    assert await found(watcher) == []
    await burst(books)
    (one,) = await found(watcher)
    assert (one.kind, one.scope, one.observed, one.expected) == (
        "velocity",
        {"component": "rhetor"},
        213_500_000,
        FLOOR,
    )
    assert one.reason == (
        "rhetor spent 0.21 USD within 15 minutes, 100 % of it on openai/gpt-4o; 15 minutes at this time of the week "
        "usually cost 0 USD, and 0.01 USD is the edge of what was learnt"
    )
    clock.at += MINUTE
    assert await found(watcher) == []
    assert await found(Watcher(pool, floor=FLOOR, clock=clock)) == [], "nor after a restart"
    (alert,) = await alerts(pool)
    assert (alert.type, alert.severity, alert.scope) == ("anomaly", "warning", {"component": "rhetor"})
    assert (alert.spent, alert.limit, alert.currency, alert.message) == ("0.2135", "0.01", "USD", one.reason)


async def test_an_episode_is_over_a_while_after_it_was_seen_last_and_the_next_one_is_told(
    books: Books, pool: asyncpg.Pool, watcher: Watcher, clock: Clock
) -> None:
    await steady(books, 2)
    await burst(books)
    assert len(await found(watcher)) == 1
    for _ in range(35):
        clock.at += MINUTE
        assert await found(watcher) == []
    ended_at = await pool.fetchval("SELECT ended_at FROM anomaly")
    assert NOW + 29 * MINUTE <= ended_at <= NOW + 32 * MINUTE
    await burst(books)
    assert len(await found(watcher)) == 1
    assert len(await alerts(pool)) == 2


async def test_a_model_is_told_where_its_component_is_as_usual(books: Books, watcher: Watcher) -> None:
    await steady(books, 2, input_tokens=40_000)  # 0.101 dollars
    await steady(books, 2, model="gpt-4o-mini")
    await burst(books, 12, model="gpt-4o-mini", input_tokens=20_000)  # 0.00306 dollars each
    (one,) = await found(watcher)
    assert one.scope == {"component": "rhetor", "provider": "openai", "model": "gpt-4o-mini"}


async def test_two_watchers_at_once_tell_once(books: Books, pool: asyncpg.Pool, clock: Clock) -> None:
    await steady(books, 2)
    await burst(books)
    looks = await asyncio.gather(*(Watcher(pool, floor=FLOOR, clock=clock).look() for _ in range(4)))
    assert sum(len(look or ()) for look in looks) == 1
    assert len(await alerts(pool)) == 1


@pytest.mark.parametrize("guarded", [True, False])
async def test_without_the_once_key_there_would_be_two_alerts(
    books: Books, pool: asyncpg.Pool, watcher: Watcher, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    async def forgotten(*_: object) -> Sequence[Episode]:
        return ()

    monkeypatch.setattr(anomalies, "episodes", forgotten)
    if not guarded:
        await pool.execute("DROP INDEX anomaly_once")
        query = anomalies._SQL["begin"]
        cut = "ON CONFLICT (kind, md5(scope::text)) WHERE ended_at IS NULL DO NOTHING"
        assert cut in query
        monkeypatch.setitem(anomalies._SQL, "begin", query.replace(cut, ""))
    await steady(books, 2)
    await burst(books)
    await found(watcher)
    await found(watcher)
    assert len(await alerts(pool)) == (1 if guarded else 2)


async def test_a_look_that_fails_leaves_nothing_and_the_next_one_tells(
    books: Books, pool: asyncpg.Pool, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise OSError("the database went away")

    await config.set_value(pool, "breaker", "velocity", actor="ops")
    await steady(books, 2)
    await burst(books)
    monkeypatch.setattr("budget_bus.insight.watching.tell_anomaly", broken)
    with pytest.raises(OSError, match="went away"):
        await watcher.look()
    assert await pool.fetchval("SELECT (SELECT count(*) FROM anomaly) + (SELECT count(*) FROM pause)") == 0
    monkeypatch.undo()
    assert len(await found(watcher)) == 1


async def test_the_breaker_pauses_a_component_and_does_not_trip_again_on_the_same_evidence(
    books: Books, pool: asyncpg.Pool, watcher: Watcher, clock: Clock
) -> None:
    await config.set_value(pool, "breaker", "velocity", actor="ops")
    await config.set_value(pool, "breaker_pause_s", 300, actor="ops")
    await steady(books, 2)
    await burst(books)
    (one,) = await found(watcher)
    (denied, other) = await books.ask(check(), check(component="codex"))
    assert (denied["allowed"], denied["reason"]) == (False, f"paused: breaker: {one.reason}")
    assert (denied["retry_after_s"], other["allowed"]) == (300, True)
    (alert,) = await alerts(pool)
    assert (alert.severity, alert.message) == ("error", f"{one.reason}; paused until 2026-03-10T12:12:30Z")
    (pause,) = await pauses.unended(pool)
    assert pause.actor == "breaker"
    change = await pool.fetchrow("SELECT actor, after FROM change WHERE kind = 'pause'")
    assert (change["actor"], change["after"]["pause_id"]) == ("breaker", str(pause.pause_id))
    clock.at += MINUTE
    assert await found(watcher) == [], "it is paused already"
    await pauses.resume(pool, pause.pause_id, reason="a test run", actor="ops", now=clock.at)
    clock.at += MINUTE
    assert await found(watcher) == [], "nothing is new"
    (allowed,) = await books.ask(check())
    assert allowed["allowed"]
    clock.at += 2 * MINUTE
    await burst(books)
    (again,) = await found(watcher)
    assert again.observed == 210_000_000, "what was spent before the resume does not count twice"
    assert [alert.severity for alert in await alerts(pool)] == ["error", "error"]
    clock.at += timedelta(minutes=5)
    (after,) = await books.ask(check())
    assert after["allowed"], "a pause of the breaker ends by itself"
    assert await found(watcher) == []


async def test_the_breaker_leaves_what_is_paused_by_hand_and_trips_on_what_it_is_told_to(
    books: Books, pool: asyncpg.Pool, watcher: Watcher, clock: Clock
) -> None:
    await steady(books, 2)
    await burst(books)
    assert len(await found(watcher)) == 1
    assert await pauses.unended(pool) == [], "it is off unless somebody switches it on"
    await config.set_value(pool, "breaker", "loop", actor="ops")
    assert await found(watcher) == []
    assert await pauses.unended(pool) == []
    await config.set_value(pool, "breaker", "both", actor="ops")
    assert len(await found(watcher)) == 1, "what lasts trips a breaker that is switched on"
    assert [pause.actor for pause in await pauses.unended(pool)] == ["breaker"]


async def test_a_loop_pauses_its_context_alone(
    books: Books, pool: asyncpg.Pool, watcher: Watcher, clock: Clock
) -> None:
    await config.set_value(pool, "breaker", "loop", actor="ops")
    await loop(books)
    (one,) = await found(watcher)
    assert (one.kind, one.scope, one.observed, one.expected, one.unit) == (
        "loop", {"context_id": "run-7"}, 65, 59, "requests"
    )  # fmt: skip
    assert one.reason.startswith("rhetor called openai/gpt-4o 65 times in a row within 2 minutes for 0.")
    assert one.reason.endswith("the input growing from 1000 to 7400 tokens")
    denied, other, none = await books.ask(check(context_id="run-7"), check(context_id="run-8"), check())
    assert [denied["allowed"], other["allowed"], none["allowed"]] == [False, True, True]
    (alert,) = await alerts(pool)
    assert (alert.context_id, alert.spent, alert.limit, alert.unit) == ("run-7", "65", "59", "requests")
    (pause,) = await pauses.unended(pool)
    await pauses.resume(pool, pause.pause_id, reason=None, actor="ops", now=clock.at)
    clock.at += MINUTE
    assert await found(watcher) == []
    await loop(books, 59, start=9000)
    assert await found(watcher) == [], "one call too few since it was resumed"
    clock.at += MINUTE
    await loop(books, 1, start=99_000)
    assert len(await found(watcher)) == 1


async def test_a_silent_component_is_told_but_not_while_usage_is_unread(
    books: Books, pool: asyncpg.Pool, watcher: Watcher, clock: Clock
) -> None:
    await steady(books, 16)
    await steady(books, 16, component="codex")
    clock.at += timedelta(hours=2)
    assert await found(watcher) == [], "usage was not read any further"
    await books.settle(usage(occurred_at=clock.at.isoformat(), component="codex"))
    (one,) = await found(watcher)
    assert (one.kind, one.scope, one.observed, one.expected) == ("silence", {"component": "rhetor"}, 0, 8)
    await books.settle(usage(occurred_at=clock.at.isoformat()))
    clock.at += timedelta(minutes=16)
    assert await found(watcher) == []
    assert await pool.fetchval("SELECT ended_at FROM anomaly") == clock.at


async def test_anomalies_are_listed_and_in_the_report(
    client: httpx2.AsyncClient, books: Books, watcher: Watcher, clock: Clock
) -> None:
    await steady(books, 2)
    await burst(books)
    clock.at += timedelta(seconds=30)
    await loop(books, component="codex")
    assert len(await found(watcher)) == 2
    clock.at += timedelta(seconds=30)
    listed = (await client.get("/api/anomalies")).json()
    assert {one["kind"] for one in listed["items"]} == {"velocity", "loop"}
    (one,) = (await client.get("/api/anomalies", params={"kind": "velocity", "lasting": True})).json()["items"]
    assert (one["observed"], one["expected"], one["currency"]) == ("0.2135", "0.01", "USD")
    assert (one["scope"], one["ended_at"], one["pause_id"]) == ({"component": "rhetor"}, None, None)
    assert (await client.get("/api/anomalies", params={"component": "nobody"})).json()["items"] == []
    assert (await client.get("/api/anomalies", params={"until": NOW.isoformat()})).json()["items"] == []
    first = (await client.get("/api/anomalies", params={"page_size": 1})).json()
    rest = (await client.get("/api/anomalies", params={"page_size": 1, "cursor": first["next_cursor"]})).json()
    assert [*first["items"], *rest["items"]] == listed["items"]
    report = (await client.get("/api/reports/summary", params={"days": 1})).json()
    assert sorted(anomaly["observed"] for anomaly in report["anomalies"]) == ["0.2135", "65"]
    assert {*report["anomalies"][0]} == {"at", "scope", "observed", "expected", "reason"}
    only = (await client.get("/api/reports/summary", params={"days": 1, "component": "codex"})).json()
    assert [anomaly["observed"] for anomaly in only["anomalies"]] == ["65"]
    wrong = await client.get("/api/anomalies", params={"kind": "odd"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "kind")


async def test_a_runaway_loop_is_stopped_while_everything_runs(kafka: str, settings: Settings) -> None:
    """On Kafka and PostgreSQL: recorded, found, paused, denied, told on the topic, resumed, allowed."""
    here = settings.model_copy(update={"anomaly_interval": 1, "check_timeout_ms": 30_000, "self_check_interval": 0,
                                       "update_prices_on_start": False})  # fmt: skip
    await apply_topics(here)
    async with (
        settler(here), decider(here), outbox_relay(here), bookkeeper(here),
        open_parts(here) as parts, client_with(parts, timeout_s=60) as client,
    ):  # fmt: skip
        await _runaway(client, here, kafka)


async def _runaway(client: httpx2.AsyncClient, settings: Settings, kafka: str) -> None:
    async def asked(context_id: str) -> Any:
        return (await client.post("/api/check", json=check(context_id=context_id))).json()

    async def paused() -> Any:
        return (await client.get("/api/pauses", params={"active": True})).json()["items"]

    assert (await client.put("/api/config/breaker", json={"value": "both"})).status_code == 200
    assert (await asked("run-7"))["allowed"]
    calls = [usage(context_id="run-7", input_tokens=20_000 + 1_000 * n) for n in range(65)]
    assert (await client.post("/api/record", json=calls, params={"wait": "true"})).status_code in (200, 202)
    (pause,) = await until(paused)
    denied = await asked("run-7")
    assert (denied["action"], denied["resets_at"]) == ("deny", pause["until"])
    assert denied["reason"] == f"paused: {pause['reason']}"
    assert denied["reason"].startswith("paused: breaker: rhetor called openai/gpt-4o 65 times in a row")
    assert (await asked("run-8"))["allowed"]
    stored = (await client.get(f"/api/decisions/{denied['request_id']}")).json()
    assert stored == denied
    consumer = AIOKafkaConsumer(
        settings.topic_prefix + "budget.alerts", bootstrap_servers=kafka, auto_offset_reset="earliest"
    )  # fmt: skip
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            alert = json.loads((await consumer.getone()).value)
    finally:
        await consumer.stop()
    assert (alert["type"], alert["severity"], alert["context_id"]) == ("anomaly", "error", "run-7")
    resumed = await client.delete(f"/api/pauses/{pause['pause_id']}", params={"reason": "mended"})
    assert resumed.status_code == 200
    assert (await asked("run-7"))["allowed"]
