"""Run-time settings on the real stack: in force from the next check on, audited, refused when wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest

from budget_bus.http.config_keys import KEYS
from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.policy.windows import Period
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings
from budget_bus.store import config
from budget_bus.store.fence import CATALOGUE_LOCK
from budget_bus.store.standing import apply_standing_limits, standing_limits
from tests.integration.books import Books, check
from tests.integration.budget_command import budget
from tests.integration.http_client import client_of

CALL: dict[str, Any] = {"component": "rhetor", "provider": "anthropic", "model": "claude-3-opus"}
QUESTION: dict[str, Any] = {**CALL, "estimated_tokens": 1000}  # at most 0.075 USD
TOO_SMALL = "0.001"
LEVEL, EQUAL = "/api/config/enforcement_level", "/api/config/equivalents"


@pytest.fixture
async def client(kafka: str, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """A gateway without consumers behind it."""
    await apply_topics(settings)
    async with client_of(settings) as client:
        yield client


async def put(client: httpx2.AsyncClient, path: str, value: Any) -> dict[str, Any]:
    response = await client.put(path, json={"value": value})
    assert response.status_code == 200, response.text
    view: dict[str, Any] = response.json()
    return view


async def test_a_level_set_at_run_time_binds_the_very_next_check_of_every_limit_without_policy(
    kafka: str, settings: Settings, pool: asyncpg.Pool
) -> None:
    await apply_topics(settings)
    specs = standing_limits({Period.WEEKLY: TOO_SMALL}, {}, currency="USD", timezone="UTC")
    await apply_standing_limits(pool, specs)
    # Patient, because the first question also waits until the decider has joined its group.
    patient = settings.model_copy(update={"check_timeout_ms": 30_000})
    async with settler(settings), decider(settings), client_of(patient) as client:
        made = await client.post("/api/limits", json={"period": "daily", "limit": TOO_SMALL, "name": "mine"})
        assert (made.json()["policy"], made.json()["policy_source"]) == ("WARN", "default")

        async def ask() -> tuple[str, dict[str, tuple[str, bool]]]:
            answer = (await client.post("/api/check", json={**QUESTION, "hold": False})).json()
            return answer["action"], {b["name"]: (b["policy"], b["would_exceed"]) for b in answer["budgets"]}

        assert await ask() == ("warn", {"weekly": ("WARN", True), "mine": ("WARN", True)})
        await put(client, LEVEL, "HARD_LIMIT")
        assert await ask() == ("deny", {"weekly": ("HARD_LIMIT", True), "mine": ("HARD_LIMIT", True)})
        # The one from the settings binds by itself too.
        assert (await client.delete(f"/api/limits/{made.json()['budget_id']}")).status_code == 204
        assert await ask() == ("deny", {"weekly": ("HARD_LIMIT", True)})
        limits = (await client.get("/api/limits")).json()["items"]
        assert [(one["policy"], one["policy_source"], one["limit_version"]) for one in limits] == [
            ("HARD_LIMIT", "default", 1)
        ]
        await client.delete(LEVEL)
        assert await ask() == ("warn", {"weekly": ("WARN", True)})


async def test_a_limit_with_a_policy_of_its_own_keeps_it(pool: asyncpg.Pool) -> None:
    books = Books(pool)
    await books.limit(0, policy=None, name="default")
    decider = books.decider()
    (before,) = await books.ask(check(), by=decider)
    await config.set_value(pool, "enforcement_level", "IGNORE", actor="ada")
    (ignored,) = await books.ask(check(), by=decider)
    await books.limit(0, scope={"component": "rhetor"}, name="own")
    (denied,) = await books.ask(check(), by=decider)
    assert (before["action"], ignored["action"], denied["action"]) == ("warn", "allow", "deny")


async def test_equivalents_set_at_run_time_are_suggested_by_the_next_denial(
    client: httpx2.AsyncClient, pool: asyncpg.Pool
) -> None:
    books = Books(pool)
    await books.limit(1_000_000)  # nanos: less than the tokens cost there, more than they cost at the other
    decider = books.decider()

    async def suggested() -> set[str]:
        (answer,) = await books.ask(check(provider="anthropic", model="claude-3-haiku"), by=decider)
        assert answer["action"] == "deny"
        return {one["provider"] for one in answer["suggestions"]["alternatives"]}

    # One of the cheapest of its provider, whose own models would come before equivalents and leave no room.
    assert "google" not in await suggested()
    # By aliases, which no call would match if they were kept.
    await put(client, EQUAL, [["Claude/claude-3-haiku", "gemini/gemini-2.0-flash"]])
    assert await pool.fetchval("SELECT value FROM config") == [["anthropic/claude-3-haiku", "google/gemini-2.0-flash"]]
    assert "google" in await suggested()


async def test_without_the_bump_the_decider_would_go_on_with_the_old_level(pool: asyncpg.Pool) -> None:
    books = Books(pool)
    await books.limit(0, policy=None)
    decider = books.decider()
    await books.ask(check(), by=decider)
    await pool.execute("""INSERT INTO config VALUES ('enforcement_level', '"HARD_LIMIT"')""")
    (old,) = await books.ask(check(), by=decider)
    assert old["action"] == "warn"


async def test_a_change_waits_for_the_batches_under_way(pool: asyncpg.Pool) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (%s)"
    here = "SELECT oid FROM pg_database WHERE datname = current_database()"
    async with pool.acquire() as batch, batch.transaction():
        await batch.execute("SELECT pg_advisory_xact_lock_shared($1)", CATALOGUE_LOCK)
        change = asyncio.create_task(config.set_value(pool, "enforcement_level", "HARD_LIMIT", actor="ada"))
        async with asyncio.timeout(30):
            while not change.done() and not await pool.fetchval(waiting % here):
                pass
        assert not change.done()
        assert await config.values(pool, ["enforcement_level"]) == {}
    assert await change
    assert await config.values(pool, ["enforcement_level"]) == {"enforcement_level": "HARD_LIMIT"}


async def test_a_change_is_audited_and_told_once_with_what_was_before(
    client: httpx2.AsyncClient, pool: asyncpg.Pool
) -> None:
    version = await pool.fetchval("SELECT version FROM catalogue")
    for value in ("HARD_LIMIT", "hard_limit", "IGNORE"):  # the second is what it is already
        await put(client, LEVEL, value)
    await client.delete(LEVEL)
    await client.delete(LEVEL)  # nothing to take back
    hard, ignore = ({"key": "enforcement_level", "value": value} for value in ("HARD_LIMIT", "IGNORE"))
    wanted = [(None, hard), (hard, ignore), (ignore, None)]
    rows = await pool.fetch("SELECT * FROM change ORDER BY at")
    assert [(row["before"], row["after"]) for row in rows] == wanted
    assert {(row["kind"], row["actor"]) for row in rows} == {("config", "http:127.0.0.1")}
    told = await pool.fetch("SELECT topic, key, value FROM outbox ORDER BY outbox_id")
    assert {(row["topic"], row["key"]) for row in told} == {("budget.changes", b"enforcement_level")}
    facts = [json.loads(row["value"]) for row in told]
    assert [(fact["kind"], fact["before"], fact["after"]) for fact in facts] == [("config", *pair) for pair in wanted]
    assert [fact["change_id"] for fact in facts] == [str(row["change_id"]) for row in rows]
    assert await pool.fetchval("SELECT version FROM catalogue") == version + 3


async def test_a_fault_in_the_middle_leaves_neither_value_nor_audit(pool: asyncpg.Pool) -> None:
    await pool.execute("ALTER TABLE outbox ADD CONSTRAINT nothing_leaves CHECK (topic = '')")
    with pytest.raises(asyncpg.CheckViolationError):
        await config.set_value(pool, "enforcement_level", "HARD_LIMIT", actor="ada")
    assert await config.values(pool, ["enforcement_level"]) == {}
    assert await pool.fetchval("SELECT count(*) FROM change") == 0


async def test_the_list_says_value_default_source_and_description(settings: Settings, kafka: str) -> None:
    await apply_topics(settings)
    async with client_of(settings.model_copy(update={"enforcement_level": "SOFT_LIMIT"})) as client:

        async def listed() -> list[tuple[str, Any, Any, str]]:
            page = (await client.get("/api/config")).json()
            assert page["next_cursor"] is None
            assert all(item["description"] for item in page["items"])
            return [(item["key"], item["value"], item["default"], item["source"]) for item in page["items"]]

        breaker = [("breaker", "off", "off", "default"), ("breaker_pause_s", 900, 900, "default")]
        assert await listed() == [
            ("enforcement_level", "SOFT_LIMIT", "SOFT_LIMIT", "setting"),
            ("equivalents", [], [], "default"),
            *breaker,
        ]
        view = await put(client, LEVEL, "HARD_LIMIT")
        await put(client, EQUAL, [["Gemini/gemini-2.5-pro", "openai/gpt-4o"]])
        assert await listed() == [
            ("enforcement_level", "HARD_LIMIT", "SOFT_LIMIT", "run-time"),
            ("equivalents", [["google/gemini-2.5-pro", "openai/gpt-4o"]], [], "run-time"),
            *breaker,
        ]
        assert (await client.get(LEVEL)).json() == view
        given_back = (await client.delete(LEVEL)).json()
        assert (given_back["value"], given_back["source"]) == ("SOFT_LIMIT", "setting")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("key", ["standing_limits", "enforcement-level"])
async def test_an_unknown_key_is_404_with_the_keys_and_what_the_books_keep_is_out_of_reach(
    client: httpx2.AsyncClient, pool: asyncpg.Pool, method: str, key: str
) -> None:
    await pool.execute("INSERT INTO config VALUES ('standing_limits', '{\"ids\": []}')")
    body = {"json": {"value": "WARN"}} if method == "PUT" else {}
    response = await client.request(method, f"/api/config/{key}", **body)
    assert (response.status_code, response.json()["type"]) == (404, "not-found")
    assert all(name in response.json()["detail"] for name in KEYS)
    assert await config.values(pool, ["standing_limits"]) == {"standing_limits": {"ids": []}}
    assert "standing_limits" not in (await client.get("/api/config")).text


@pytest.mark.parametrize(
    ("path", "content", "status", "errors"),
    [
        pytest.param(LEVEL, '{"value": "STRICT"}', 422, {"value": "HARD_LIMIT"}, id="no such policy"),
        pytest.param(LEVEL, '{"value": null}', 422, {"value": "HARD_LIMIT"}, id="null"),
        pytest.param(LEVEL, "{}", 422, {"value": "is required"}, id="no value"),
        pytest.param(LEVEL, '{"value": "WARN", "vlaue": 1}', 422, {"vlaue": ""}, id="a field that is not one"),
        pytest.param(LEVEL, '"WARN"', 422, {"": ""}, id="a bare value"),
        pytest.param(EQUAL, '{"value": [["gpt-4o", "a/b"]]}', 422, {"value": "provider/model"}, id="no provider"),
        pytest.param(EQUAL, '{"value": [["a/b", "c/\\u0000"]]}', 422, {"value": "control"}, id="a NUL"),
        pytest.param(EQUAL, '{"value": NaN}', 422, {"value": "list of lists"}, id="not a number"),
        pytest.param(EQUAL, '{"value": [', 400, {}, id="no JSON"),
        pytest.param(EQUAL, '{"value": ' + "[" * 10_000, 400, {}, id="deeper than anyone reads"),
    ],
)
async def test_bad_input_names_the_field_and_changes_nothing(
    client: httpx2.AsyncClient, path: str, content: str, status: int, errors: dict[str, str]
) -> None:
    response = await client.put(path, content=content)
    assert response.status_code == status, response.text
    found = {error["field"]: error["message"] for error in response.json().get("errors") or []}
    assert found.keys() == errors.keys()
    assert all(says in found[field] for field, says in errors.items())
    assert {item["source"] for item in (await client.get("/api/config")).json()["items"]} == {"default"}


async def test_the_command_sets_gets_lists_and_unsets(kafka: str, settings: Settings) -> None:
    await apply_topics(settings)
    served = settings.model_copy(update={"port": free_port()})
    async with gateway(served):
        assert (await budget(served, "config", "get", "enforcement_level")).out == "WARN\n"
        told = await budget(served, "config", "set", "enforcement_level", "hard_limit")
        assert told.out == "enforcement_level is now HARD_LIMIT\n"
        assert (await budget(served, "config", "get", "enforcement_level")).out == "HARD_LIMIT\n"
        groups = [["openai/gpt-4o", "anthropic/claude-sonnet-4-5"]]
        await budget(served, "config", "set", "equivalents", json.dumps(groups))
        assert json.loads((await budget(served, "config", "get", "equivalents")).out) == groups
        one = (await budget(served, "config", "get", "enforcement_level", "--format", "json")).json
        assert (one["value"], one["default"], one["source"]) == ("HARD_LIMIT", "WARN", "run-time")
        rows = (await budget(served, "config", "list", "--format", "json")).json
        values = {row["key"]: row["value"] for row in rows}
        assert values == {
            "enforcement_level": "HARD_LIMIT", "equivalents": groups, "breaker": "off", "breaker_pause_s": 900
        }  # fmt: skip
        assert "run-time" in (await budget(served, "config", "list")).out
        table = (await budget(served, "config", "list", "--format", "csv")).out
        assert table.startswith("key,value,source,default,description\nenforcement_level,HARD_LIMIT,run-time,WARN,")
        unset = await budget(served, "config", "unset", "enforcement_level")
        assert unset.out == "enforcement_level is now WARN (default)\n"
        wrong = await budget(served, "config", "set", "enforcement_level", "STRICT", code=1)
        assert "value: must be one of IGNORE, WARN, SOFT_LIMIT, HARD_LIMIT" in wrong.err
        unknown = await budget(served, "config", "get", "enforcement level/x?", code=1)
        assert "not found" in unknown.err
        assert "there are enforcement_level" in (await budget(served, "config", "get", "a?b", code=1)).err
        assert "is not JSON" in (await budget(served, "config", "set", "equivalents", "[[", code=2)).err
        assert "must not be empty" in (await budget(served, "config", "get", "", code=2)).err
