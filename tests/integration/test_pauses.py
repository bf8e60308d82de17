"""Pauses: heeded by the next decision after the commit, told in the audit, ended by hand or by themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest

from budget_bus.policy.budget import Policy
from budget_bus.policy.pause import Pause
from budget_bus.policy.scope import parse_scope
from budget_bus.store import pauses
from budget_bus.store.catalogue import Catalogue
from tests.integration.books import COST, USD, Books, check, usage
from tests.integration.clock import Clock

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
PATH = "/api/pauses"


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def books(pool: asyncpg.Pool, clock: Clock) -> Books:
    return Books(pool, clock=clock)


async def paused(
    pool: asyncpg.Pool, scope: dict[str, Any], until: datetime | None = None, reason: str = "a loop"
) -> Pause:
    kept, _ = await pauses.pause(pool, parse_scope(scope), reason=reason, actor="ops", until=until, now=NOW)
    return kept.pause


async def test_the_next_decision_heeds_a_pause_and_holds_nothing(books: Books, pool: asyncpg.Pool) -> None:
    budget = await books.limit(10 * USD)
    decider = books.decider()
    (before,) = await books.ask(check(), by=decider)
    assert before["allowed"]
    held = await books.balance(budget)
    pause = await paused(pool, {"component": "rhetor"}, NOW + timedelta(minutes=15))
    (denied, other) = await books.ask(check(), check(component="codex"), by=decider)
    assert (denied["allowed"], denied["action"], denied["reason"]) == (False, "deny", "paused: a loop")
    assert (denied["binding_budget"], denied["hold"], denied["policy_type"]) == (None, None, None)
    assert (denied["resets_at"], denied["retry_after_s"]) == ("2026-03-10T12:15:00Z", 900)
    assert [line["binding"] for line in denied["budgets"]] == [False]
    assert other["allowed"]
    assert (await books.balance(budget))[1] == 2 * held[1]
    await pauses.resume(pool, pause.pause_id, reason=None, actor="ops", now=NOW)
    (after,) = await books.ask(check(), by=decider)
    assert after["allowed"]


async def test_without_the_look_at_the_pauses_the_check_would_be_allowed(
    books: Books, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(_: object) -> Sequence[Pause]:
        return ()

    await paused(pool, {})
    monkeypatch.setattr("budget_bus.store.catalogue.pauses.unended", none)
    (allowed,) = await books.ask(check())
    assert allowed["allowed"]
    monkeypatch.undo()
    (denied,) = await books.ask(check())
    assert denied["reason"] == "paused: a loop"


async def test_a_pause_ends_by_itself_though_no_catalogue_is_read_again(
    books: Books, pool: asyncpg.Pool, clock: Clock
) -> None:
    decider = books.decider()
    await paused(pool, {}, NOW + timedelta(minutes=1))
    (denied,) = await books.ask(check(), by=decider)
    assert not denied["allowed"]
    clock.at += timedelta(minutes=1)
    (allowed,) = await books.ask(check(), by=decider)
    assert allowed["allowed"]


async def test_neither_a_critical_nor_a_free_call_nor_a_lease_passes(books: Books, pool: asyncpg.Pool) -> None:
    await books.limit(10 * USD, critical_may_pass=True)
    await paused(pool, {"component": "rhetor"})
    answers = await books.ask(
        check(priority="critical"),
        check(provider="ollama", model="llama3"),
        check(lease_calls=100),
        check(hold=False),
    )
    assert {answer["reason"] for answer in answers} == {"paused: a loop"}
    assert [answer["lease"] for answer in answers] == [None] * 4
    assert {(answer["resets_at"], answer["retry_after_s"]) for answer in answers} == {(None, None)}
    assert await pool.fetchval("SELECT count(*) FROM hold") == 0


async def test_a_repeated_question_keeps_its_answer_and_usage_is_still_counted(
    books: Books, pool: asyncpg.Pool
) -> None:
    budget = await books.limit(10 * USD)
    asked = check()
    await books.ask(asked)
    await paused(pool, {})
    await books.ask(asked)
    assert len({reply.value for reply in books.replies}) == 1
    await books.settle(usage(request_id=asked["request_id"], occurred_at=NOW.isoformat()))
    assert await books.balance(budget) == (COST, 0, 0)


async def test_a_paused_model_is_not_suggested_instead(books: Books, pool: asyncpg.Pool) -> None:
    await books.limit(1_000_000)  # 0.001 dollars: too little for gpt-4o
    (answer,) = await books.ask(check())
    (first, *_) = [one["model"] for one in answer["suggestions"]["alternatives"]]
    await paused(pool, {"model": first})
    (answer,) = await books.ask(check())
    assert first not in [one["model"] for one in answer["suggestions"]["alternatives"]]


async def test_pausing_again_changes_the_one_that_holds_and_what_has_ended_leaves_room(
    books: Books, pool: asyncpg.Pool
) -> None:
    first = await paused(pool, {"component": "rhetor"}, NOW + timedelta(minutes=1))
    kept, created = await pauses.pause(
        pool, parse_scope({"component": ["rhetor"]}), reason="longer", actor="ann", until=None, now=NOW
    )
    assert (kept.pause.pause_id, created, kept.pause.until) == (first.pause_id, False, None)
    (answer,) = await books.ask(check())
    assert (answer["reason"], answer["resets_at"]) == ("paused: longer", None)
    short = await paused(pool, {"component": "codex"}, NOW + timedelta(minutes=1))
    later, created = await pauses.pause(
        pool, parse_scope({"component": "codex"}), reason="again", actor="ann", until=None, now=NOW + timedelta(hours=1)
    )
    assert created
    assert later.pause.pause_id != short.pause_id
    row = await pool.fetchrow("SELECT ended_at, ended_by FROM pause WHERE pause_id = $1", short.pause_id)
    assert tuple(row) == (short.until, None)


async def test_pauses_over_http_are_listed_changed_and_audited(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, clock: Clock
) -> None:
    made = await client.post(PATH, json={"scope": {"provider": "Gemini"}, "reason": "an outage", "ttl_s": 600})
    assert made.status_code == 201
    one = made.json()
    assert (one["scope"], one["active"], one["until"]) == ({"provider": "google"}, True, "2026-03-10T12:10:00Z")
    again = await client.post(PATH, json={"scope": {"provider": "google"}, "reason": "a long outage"})
    assert (again.status_code, again.json()["pause_id"], again.json()["until"]) == (200, one["pause_id"], None)
    ended = await client.delete(f"{PATH}/{one['pause_id']}", params={"reason": "it is back"})
    assert (ended.status_code, ended.json()["active"], ended.json()["end_reason"]) == (200, False, "it is back")
    clock.at += timedelta(minutes=1)
    repeated = await client.delete(f"{PATH}/{one['pause_id']}")
    assert repeated.json() == ended.json()
    short = (await client.post(PATH, json={"scope": {}, "reason": "all", "ttl_s": 1})).json()
    clock.at += timedelta(minutes=1)
    listed = (await client.get(PATH)).json()["items"]
    assert [one["pause_id"] for one in listed] == [short["pause_id"], one["pause_id"]]
    assert (listed[0]["active"], listed[0]["ended_at"]) == (False, listed[0]["until"])
    assert (await client.get(PATH, params={"active": True})).json()["items"] == []
    first = (await client.get(PATH, params={"page_size": 1})).json()
    rest = (await client.get(PATH, params={"page_size": 1, "cursor": first["next_cursor"]})).json()
    assert [*first["items"], *rest["items"]] == listed
    rows = await pool.fetch("SELECT before, after FROM change WHERE kind = 'pause' ORDER BY at, after ->> 'ended_at'")
    assert [row["before"] is None for row in rows].count(True) == 2
    sent = [json.loads(row["value"]) for row in await pool.fetch(
        "SELECT value FROM outbox WHERE topic = 'budget.changes' ORDER BY outbox_id")]  # fmt: skip
    assert [fact["kind"] for fact in sent] == ["pause"] * 4
    assert [fact["after"]["ended_by"] is None for fact in sent] == [True, True, False, True]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"reason": "x"}, "scope", id="no scope"),
        pytest.param({"scope": {"component": "rhetor"}}, "reason", id="no reason"),
        pytest.param({"scope": {"colour": "red"}, "reason": "x"}, "scope.colour", id="no such field"),
        pytest.param({"scope": {"component": []}, "reason": "x"}, "scope.component", id="no name"),
        pytest.param({"scope": {}, "reason": " "}, "reason", id="a blank reason"),
        pytest.param({"scope": {}, "reason": "x", "ttl_s": 0}, "ttl_s", id="no time at all"),
        pytest.param({"scope": {}, "reason": "x", "until": "2020-01-01T00:00:00Z"}, "until", id="an end that is past"),
        pytest.param({"scope": {}, "reason": "x", "until": "2027-01-01T00:00:00Z", "ttl_s": 5}, "until", id="two ends"),
    ],
)
async def test_a_pause_that_cannot_be_names_the_field(
    client: httpx2.AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await client.post(PATH, json=body)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_pause_that_never_was_cannot_be_resumed(client: httpx2.AsyncClient) -> None:
    for name in ("nothing", "6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10"):
        assert (await client.delete(f"{PATH}/{name}")).status_code == 404


async def test_a_scope_of_a_hundred_long_names_can_be_paused(client: httpx2.AsyncClient, pool: asyncpg.Pool) -> None:
    names = [f"{n:03d}" + "ü" * 197 for n in range(100)]
    made = await client.post(PATH, json={"scope": {"component": names, "user": names}, "reason": "x"})
    assert made.status_code == 201
    catalogue = Catalogue(Policy.WARN)
    async with pool.acquire() as connection:
        await catalogue.refresh(connection)
    assert len(catalogue.pauses) == 1
