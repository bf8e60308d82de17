"""The log of decisions: what was answered, newest first, exactly once over its pages, filtered, as it was sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest

from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.policy.budget import Policy
from budget_bus.producers.topics import apply_topics
from budget_bus.settings import Settings
from budget_bus.store import holds
from budget_bus.store.sql import queries
from tests.integration.books import USD, Books, check
from tests.integration.budget_command import budget

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


async def at(books: Books, minute: int, *questions: dict[str, Any]) -> list[dict[str, Any]]:
    """Decide *questions* so many minutes after noon."""
    books.clock = lambda: NOON + timedelta(minutes=minute)
    return await books.ask(*questions)


async def ids(client: httpx2.AsyncClient, **query: Any) -> list[str]:
    response = await client.get("/api/decisions", params=query)
    assert response.status_code == 200, response.text
    return [item["request_id"] for item in response.json()["items"]]


async def test_an_answer_is_shown_byte_for_byte_as_it_was_sent(client: httpx2.AsyncClient, books: Books) -> None:
    await books.limit(0, name="naïve “limit”")
    asked = check()
    await books.ask(asked)
    shown = await client.get(f"/api/decisions/{asked['request_id']}")
    assert shown.content == books.replies[0].value
    assert shown.headers["content-type"] == "application/json"
    listed = await client.get("/api/decisions")
    who = b'{"component": "rhetor", "provider": "openai", "model": "gpt-4o",'
    assert listed.content == b'{"items":[' + who + books.replies[0].value[1:] + b'],"next_cursor":null}'


async def test_pages_are_newest_first_and_have_every_decision_once_while_new_ones_come(
    client: httpx2.AsyncClient, books: Books
) -> None:
    asked = []
    for minute in range(3):
        batch = [check() for _ in range(4)]  # decided in the same instant
        await at(books, minute, *batch)
        asked += [(minute, UUID(question["request_id"])) for question in batch]
    wanted = [str(request_id) for _, request_id in sorted(asked, reverse=True)]
    assert await ids(client) == wanted
    found: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = (await client.get("/api/decisions", params={"page_size": 5, **cursor})).json()
        found += [item["request_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
        await at(books, 10 + len(found), check())
    assert found == wanted


async def test_filters_pick_by_action_span_and_budget(client: httpx2.AsyncClient, books: Books) -> None:
    hard = await books.limit(15_000_000, name="hard", scope={"component": "rhetor"})
    soft = await books.limit(0, name=f"like {hard.budget_id}", policy=Policy.WARN, scope={"component": "apollo"})
    names = {}
    for minute, (name, component) in enumerate(
        [("allowed", "rhetor"), ("denied", "rhetor"), ("warned", "apollo"), ("free", "ergon")]
    ):
        question = check(component=component)
        await at(books, minute, question)
        names[question["request_id"]] = name

    async def found(**query: Any) -> list[str]:
        return [names[request_id] for request_id in await ids(client, **query)]

    def minute(number: int) -> str:
        return (NOON + timedelta(minutes=number)).isoformat()

    assert await found() == ["free", "warned", "denied", "allowed"]
    assert await found(action="deny") == ["denied"]
    assert await found(action=["warn", "deny"]) == ["warned", "denied"]
    assert await found(since=minute(1)) == ["free", "warned", "denied"]
    assert await found(until=minute(1)) == ["allowed"]
    assert await found(since=minute(1), until=minute(3)) == ["warned", "denied"]
    # The soft one's name holds the hard one's id, which must not count.
    assert await found(budget_id=str(hard.budget_id)) == ["denied", "allowed"]
    assert await found(budget_id=[str(hard.budget_id), str(soft.budget_id)]) == ["warned", "denied", "allowed"]
    assert await found(budget_id=str(hard.budget_id), action="allow") == ["allowed"]
    assert await found(budget_id=str(uuid4())) == []


async def test_what_was_released_before_it_was_decided_is_no_decision(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, books: Books
) -> None:
    budget_id = (await books.limit(USD)).budget_id
    released = uuid4()
    async with pool.acquire() as connection:
        await holds.release_early(connection, [released], at=NOON)
    question = check()
    await at(books, 1, question)
    assert await ids(client) == [question["request_id"]]
    assert await ids(client, budget_id=str(budget_id)) == [question["request_id"]]
    response = await client.get(f"/api/decisions/{released}")
    assert (response.status_code, response.json()["type"]) == (404, "not-found")
    assert "released before" in response.json()["detail"]


@pytest.mark.parametrize("name", [str(uuid4()), "x"])
async def test_an_unknown_decision_is_404(client: httpx2.AsyncClient, name: str) -> None:
    response = await client.get(f"/api/decisions/{name}")
    assert (response.status_code, response.json()["type"]) == (404, "not-found")
    assert name in response.json()["detail"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        pytest.param({"action": "released"}, "action", id="what is no decision"),
        pytest.param({"budget_id": "x"}, "budget_id", id="no id"),
        pytest.param({"user": "ada"}, "user", id="a filter that there is not"),
        pytest.param({"since": "2026-06-01T12:00:00"}, "since", id="no zone"),
        pytest.param({"since": "2026-06-02T00:00:00Z", "until": "2026-06-02T00:00:00Z"}, "until", id="an empty span"),
        pytest.param({"cursor": "e30"}, "cursor", id="no cursor of ours"),
        pytest.param({"page_size": 0}, "page_size", id="no page"),
    ],
)
async def test_a_wrong_parameter_is_named(client: httpx2.AsyncClient, query: dict[str, Any], field: str) -> None:
    response = await client.get("/api/decisions", params=query)
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]


async def test_decisions_are_found_by_who_asked_for_what_the_denied_too(
    client: httpx2.AsyncClient, books: Books
) -> None:
    await books.limit(0, scope={"component": "codex"})
    denied, allowed = check(component="codex"), check(model="gpt-4o-mini")
    await books.ask(denied, allowed)
    for query, expected in (
        ({"component": "codex"}, [denied]),
        ({"model": "gpt-4o-mini"}, [allowed]),
        ({"provider": "OpenAI", "component": ["codex", "ergon"]}, [denied]),
        ({"provider": "groq"}, []),
    ):
        assert await ids(client, **query) == [asked["request_id"] for asked in expected]


async def test_a_page_is_found_by_its_index_also_with_a_plan_for_any_parameters(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO decision SELECT gen_random_uuid(), '', 'allow', '{\"budgets\":[]}', $1::timestamptz - n * "
            "interval '1 minute' FROM generate_series(1, 5000) AS n",
            NOON,
        )
        await connection.execute("ANALYZE decision")
        sql = queries("decisions")["decisions"]
        types = "text[], timestamptz, timestamptz, timestamptz, uuid, text[], text[], text[], text[], text[], int"
        await connection.execute(f"PREPARE log ({types}) AS {sql}")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        plan = await connection.fetch(
            "EXPLAIN EXECUTE log (null, null, now(), now(), null, null, '{}', null, null, null, 100)"
        )
    text = "\n".join(row[0] for row in plan)
    condition = text.partition("Index Cond: ")[2].partition("\n")[0]
    assert "using decision_log" in text
    assert "decided_at <" in condition
    assert "ROW(decided_at, request_id) <" in condition
    assert "Sort" not in text


async def test_the_command_lists_and_shows(kafka: str, settings: Settings, books: Books) -> None:
    await apply_topics(settings)
    limit = await books.limit(15_000_000, name="tiny")
    first, second = check(), check()
    await at(books, 0, first)
    await at(books, 1, second)
    served = settings.model_copy(update={"port": free_port()})
    async with gateway(served):
        denied = ("decisions", "list", "--action", "deny", "--budget", limit.budget_id)
        (answer,) = (await budget(served, *denied, "--format", "json")).json
        assert answer["request_id"] == second["request_id"]
        table = (await budget(served, "decisions", "list", "--format", "csv")).out.splitlines()
        assert table[0].startswith("decided_at,component,model,request_id,action,reason,")
        assert [line.split(",")[3:5] for line in table[1:]] == [
            [second["request_id"], "deny"],
            [first["request_id"], "allow"],
        ]
        assert second["request_id"] in (await budget(served, "decisions", "list", "--limit", 1)).out
        shown = (await budget(served, "decisions", "show", second["request_id"])).out
        assert shown.startswith("deny: ")
        assert "tiny" in shown
        whole = (await budget(served, "decisions", "show", second["request_id"], "--format", "json")).json
        assert whole == json.loads(books.replies[1].value)
        assert "no decision" in (await budget(served, "decisions", "show", uuid4(), code=1)).err
        empty = ("--since", NOON.isoformat(), "--until", NOON.isoformat())
        assert "until: must be after" in (await budget(served, "decisions", "list", *empty, code=1)).err
        await budget(served, "decisions", "show", "x", code=2)
