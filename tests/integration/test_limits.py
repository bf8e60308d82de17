"""/api/limits on a real gateway: parts of a limit, raises, what is carried over, budgets of contexts, past windows."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest

from budget_bus.store.fence import CATALOGUE_LOCK
from tests.integration.books import Books, check, usage
from tests.integration.clock import Clock

RUN = "3f2b8a52-run"
NOBODY = "6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def books(pool: asyncpg.Pool, clock: Clock) -> Books:
    return Books(pool, clock=clock)


async def post(client: httpx2.AsyncClient, status: int = 201, path: str = "/api/limits", **body: Any) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def calls(client: httpx2.AsyncClient, limit: int, status: int = 201, **body: Any) -> dict[str, Any]:
    """A daily limit of so many calls."""
    return await post(client, status, **{"period": "daily", "unit": "requests", "limit": limit, **body})


async def get(client: httpx2.AsyncClient, budget: dict[str, Any], path: str = "", **query: Any) -> Any:
    response = await client.get(f"/api/limits/{budget['budget_id']}{path}", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def some(view: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(view[name] for name in names)


def wrong(response: httpx2.Response) -> list[str]:
    assert response.status_code == 422, response.text
    return [error["field"] for error in response.json()["errors"]]


async def use(books: Books, count: int, **fields: Any) -> None:
    at = books.clock().isoformat()
    await books.settle(*(usage(occurred_at=at, **fields) for _ in range(count)))


# --- allocations


async def test_an_allocation_takes_its_measure_from_its_parent_and_follows_it(client: httpx2.AsyncClient) -> None:
    whole = await post(client, period="weekly", limit=1000, unit="tokens", timezone="Asia/Kathmandu", week_start=6)
    part = await post(client, parent=whole["budget_id"], percent="12.5000", scope={"component": "rhetor"})
    assert some(part, "period", "unit", "timezone", "week_start") == ("weekly", "tokens", "Asia/Kathmandu", 6)
    assert some(part, "parent", "percent", "limit", "name") == (
        whole["budget_id"],
        "12.5",
        "125",
        "weekly component=rhetor",
    )
    await client.patch(f"/api/limits/{whole['budget_id']}", json={"limit": 2000})
    assert some(await get(client, part), "limit", "available") == ("250", "250")
    await client.patch(f"/api/limits/{part['budget_id']}", json={"percent": 100})
    assert (await get(client, part))["limit"] == "2000"


async def test_a_limit_becomes_an_allocation_and_a_limit_again(client: httpx2.AsyncClient) -> None:
    whole = await calls(client, 10)
    part = await calls(client, 3, scope={"component": "rhetor"}, policy="HARD_LIMIT")
    path = f"/api/limits/{part['budget_id']}"
    became = (await client.patch(path, json={"parent": whole["budget_id"], "percent": 50})).json()
    assert some(became, "parent", "limit", "policy") == (whole["budget_id"], "5", "HARD_LIMIT")
    again = (await client.patch(path, json={"limit": 4})).json()
    assert some(again, "parent", "percent", "limit") == (None, None, "4")
    share = {"parent": whole["budget_id"], "percent": 20, "scope": {"component": "rhetor"}}
    assert some(await post(client, 200, **share), "budget_id", "limit") == (part["budget_id"], "2")
    assert some(await calls(client, 7, 200, scope={"component": "rhetor"}), "parent", "limit") == (None, "7")


async def test_a_limit_with_allocations_is_not_removed_before_them(client: httpx2.AsyncClient) -> None:
    whole = await calls(client, 10)
    part = await post(client, parent=whole["budget_id"], percent=50, scope={"component": "rhetor"})
    refused = await client.delete(f"/api/limits/{whole['budget_id']}")
    assert (refused.status_code, refused.json()["type"]) == (409, "conflict")
    assert "daily component=rhetor" in refused.json()["detail"]
    for budget in (part, whole):
        assert (await client.delete(f"/api/limits/{budget['budget_id']}")).status_code == 204


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"period": "weekly"}, "period", id="another period than its parent's"),
        pytest.param({"unit": "tokens"}, "unit", id="another unit"),
        pytest.param({"currency": "USD"}, "currency", id="a currency, where calls are counted"),
        pytest.param({"parent": NOBODY}, "parent", id="a parent that there is not"),
        pytest.param({"scope": {}}, "parent", id="its parent itself"),
        pytest.param({"percent": "70.0001"}, "percent", id="more than is left"),
    ],
)
async def test_an_allocation_that_does_not_fit_is_refused(
    client: httpx2.AsyncClient, body: dict[str, Any], field: str
) -> None:
    whole = await calls(client, 10)
    await post(client, parent=whole["budget_id"], percent=30, scope={"component": "codex"})
    part = {"parent": whole["budget_id"], "percent": 70, "scope": {"component": "rhetor"}}
    assert wrong(await client.post("/api/limits", json={**part, **body})) == [field]
    assert (await client.post("/api/limits", json=part)).status_code == 201


async def test_two_who_say_different_things_of_a_limit_do_not_undo_each_other(
    client: httpx2.AsyncClient, pool: asyncpg.Pool
) -> None:
    """Both have been asked before either may change anything; what the second keeps is what the first has said."""
    budget = await calls(client, 10)
    path = f"/api/limits/{budget['budget_id']}"
    async with asyncio.TaskGroup() as group, pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", CATALOGUE_LOCK)
        group.create_task(calls(client, 10, 200, policy="HARD_LIMIT"))
        group.create_task(calls(client, 10, 200, thresholds=[90]))
        group.create_task(client.patch(path, json={"shadow": True}))
        group.create_task(client.patch(path, json={"name": "mine"}))
        async with asyncio.timeout(30):
            while await connection.fetchval(_WAITING) < 4:
                pass
    said = some(await get(client, budget), "policy", "thresholds", "shadow", "name", "limit")
    assert said == ("HARD_LIMIT", [90], True, "mine", "10")


_WAITING = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


# --- raises


async def test_a_raise_is_in_the_limit_until_it_ends_by_itself(client: httpx2.AsyncClient, clock: Clock) -> None:
    budget = await calls(client, 10)
    path = f"/api/limits/{budget['budget_id']}/raise"
    await post(client, 200, path, amount=5, ttl_s=3600, reason="a long run")
    clock.turn(minutes=1)
    until = clock() + timedelta(hours=2)
    raised = await post(client, 200, path, amount="2", expires_at=until.isoformat())
    assert some(raised, "limit", "available", "raised") == ("17", "17", "7")
    assert [some(one, "amount", "reason") for one in raised["raises"]] == [("5", "a long run"), ("2", None)]
    assert datetime.fromisoformat(raised["raises"][1]["ends_at"]) == until
    clock.turn(minutes=59)
    after = await get(client, budget)
    assert (*some(after, "limit", "raised"), len(after["raises"])) == ("12", "2", 1)
    ended = await client.delete(path)
    assert ended.status_code == 200
    assert some(ended.json(), "limit", "raised", "raises") == ("10", "0", [])
    # Nothing has changed by ending what had ended, so nobody is alerted anew.
    assert (await client.delete(path)).json()["limit_version"] == ended.json()["limit_version"]


async def test_an_allocation_has_its_part_of_its_parents_raise_and_its_own(client: httpx2.AsyncClient) -> None:
    whole = await calls(client, 10)
    part = await post(client, parent=whole["budget_id"], percent=50, scope={"component": "rhetor"})
    await post(client, 200, f"/api/limits/{whole['budget_id']}/raise", amount=4, ttl_s=60)
    assert some(await get(client, part), "limit", "raised") == ("7", "0")
    await post(client, 200, f"/api/limits/{part['budget_id']}/raise", amount=1, ttl_s=60)
    assert some(await get(client, part), "limit", "raised") == ("8", "1")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"ttl_s": 60}, "amount", id="no amount"),
        pytest.param({"amount": 0, "ttl_s": 60}, "amount", id="by nothing"),
        pytest.param({"amount": -1, "ttl_s": 60}, "amount", id="downwards"),
        pytest.param({"amount": 0.5, "ttl_s": 60}, "amount", id="by half a call"),
        pytest.param({"amount": 1}, "expires_at", id="for ever"),
        pytest.param({"amount": 1, "ttl_s": 60, "expires_at": "2099-01-01T00:00:00Z"}, "expires_at", id="two ends"),
        pytest.param({"amount": 1, "ttl_s": 0}, "ttl_s", id="for no time"),
        pytest.param({"amount": 1, "ttl_s": 31_536_001}, "ttl_s", id="for more than a year"),
        pytest.param({"amount": 1, "expires_at": "2026-03-10T12:00:00Z"}, "expires_at", id="until now"),
        pytest.param({"amount": 1, "expires_at": "2099-01-01T00:00:00"}, "expires_at", id="until a time without zone"),
        pytest.param({"amount": 1, "ttl_s": 60, "why": "x"}, "why", id="a field that there is not"),
    ],
)
async def test_a_raise_that_cannot_be_is_refused(client: httpx2.AsyncClient, body: dict[str, Any], field: str) -> None:
    budget = await calls(client, 10)
    assert wrong(await client.post(f"/api/limits/{budget['budget_id']}/raise", json=body)) == [field]
    assert (await get(client, budget))["limit"] == "10"


@pytest.mark.parametrize("budget_id", [NOBODY, "daily"])
async def test_what_is_asked_of_no_budget_is_not_found(client: httpx2.AsyncClient, budget_id: str) -> None:
    path = f"/api/limits/{budget_id}"
    answers = [
        await client.post(f"{path}/raise", json={"amount": 1, "ttl_s": 60}),
        await client.delete(f"{path}/raise"),
        await client.get(f"{path}/windows"),
        await client.patch(path, json={"limit": 1}),
    ]
    assert [answer.status_code for answer in answers] == [404] * 4


# --- what is carried over, and past windows


async def test_a_new_window_shows_what_it_will_begin_with_before_it_is_used(
    client: httpx2.AsyncClient, books: Books, clock: Clock
) -> None:
    budget = await calls(client, 10, rollover_cap=15)
    await use(books, 4)
    assert some(await get(client, budget), "limit", "available", "carried_in") == ("10", "6", "0")
    clock.turn(days=1)
    seen = some(await get(client, budget), "limit", "available", "carried_in", "rollover_cap")
    assert seen == ("16", "16", "6", "15")
    clock.turn(days=1)
    assert some(await get(client, budget), "limit", "carried_in") == ("25", "15")
    await use(books, 1)
    born = some(await get(client, budget), "limit", "available", "carried_in")
    assert born == ("25", "24", "15")
    listed = (await get(client, budget, "/windows"))["items"]
    numbers = [some(one, "limit", "spent", "available", "carried_in", "carried_out") for one in listed]
    assert numbers == [("25", "1", "24", "15", "0"), ("4", "4", "0", "0", "6")]


async def test_past_windows_have_the_limit_that_they_ended_with(
    client: httpx2.AsyncClient, books: Books, clock: Clock
) -> None:
    whole = await calls(client, 10)
    part = await post(client, parent=whole["budget_id"], percent=50, scope={"component": "rhetor"})
    await post(client, 200, f"/api/limits/{whole['budget_id']}/raise", amount=4, ttl_s=86_400)
    await use(books, 2)
    clock.turn(days=1)
    await use(books, 1)
    await client.patch(f"/api/limits/{whole['budget_id']}", json={"limit": 20})
    clock.turn(days=50)
    await client.patch(f"/api/limits/{whole['budget_id']}", json={"limit": 100})
    await client.patch(f"/api/limits/{part['budget_id']}", json={"percent": 1})
    shown = [some(w, "limit", "spent") for w in (await get(client, part, "/windows"))["items"]]
    assert shown == [("1", "0"), ("10", "1"), ("7", "2")]


async def test_windows_come_in_pages_and_within_bounds(client: httpx2.AsyncClient, books: Books, clock: Clock) -> None:
    budget = await calls(client, 10)
    for _ in range(4):
        await use(books, 1)
        clock.turn(days=1)
    every = [one["window_start"][:10] for one in (await get(client, budget, "/windows"))["items"]]
    assert every == ["2026-03-14", "2026-03-13", "2026-03-12", "2026-03-11", "2026-03-10"]
    seen, cursor = [], {}
    while True:
        page = await get(client, budget, "/windows", page_size=2, **cursor)
        seen += [one["window_start"][:10] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == every
    some_days = await get(client, budget, "/windows", start="2026-03-11T12:00:00Z", end="2026-03-13T00:00:00Z")
    assert [one["window_start"][:10] for one in some_days["items"]] == ["2026-03-12", "2026-03-11"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        pytest.param({"context_id": RUN}, "context_id", id="a context of a daily limit"),
        pytest.param({"start": "2026-03-11T00:00:00Z", "end": "2026-03-11T00:00:00Z"}, "end", id="an empty span"),
        pytest.param({"start": "yesterday"}, "start", id="no instant"),
        pytest.param({"cursor": "bnVsbA"}, "cursor", id="a cursor that is none of ours"),
        pytest.param({"cursor": "WyIyMDI2LTAzLTEwVDAwOjAwOjAwWiIsIDVd"}, "cursor", id="a cursor whose context is 5"),
        pytest.param({"page_size": 0}, "page_size", id="a page of nothing"),
    ],
)
async def test_a_question_for_windows_that_makes_no_sense_is_refused(
    client: httpx2.AsyncClient, query: dict[str, Any], field: str
) -> None:
    budget = await calls(client, 10)
    assert wrong(await client.get(f"/api/limits/{budget['budget_id']}/windows", params=query)) == [field]


# --- budgets of contexts


async def test_a_budget_per_context_shows_the_fullest_one_that_runs(
    client: httpx2.AsyncClient, books: Books, clock: Clock
) -> None:
    budget = await calls(client, 10, period="per_context", ttl_s=3600)
    none = some(budget, "context_id", "window_start", "window_end", "spent", "limit", "available", "ttl_s")
    assert none == (None, None, None, "0", "10", "10", 3600)
    await use(books, 3, context_id="full")
    clock.turn(minutes=10)
    await use(books, 2, context_id="young")
    await books.ask(check(context_id="young"), check(context_id="young"))
    seen = await get(client, budget)
    assert some(seen, "context_id", "spent", "held", "available") == ("young", "2", "2", "6")
    assert datetime.fromisoformat(seen["window_end"]) == clock() + timedelta(hours=1)
    listed = (await get(client, budget, "/windows"))["items"]
    assert [some(one, "context_id", "spent", "limit") for one in listed] == [("young", "2", "10"), ("full", "3", "10")]
    full = (await get(client, budget, "/windows", context_id="full"))["items"]
    assert [one["context_id"] for one in full] == ["full"]
    # The status shows all budgets, and usage those of its period.
    status = (await client.get("/api/status")).json()["budgets"]
    assert [one["context_id"] for one in status] == ["young"]
    assert (await client.get("/api/usage/daily")).status_code == 200
    clock.turn(hours=1)
    assert some(await get(client, budget), "context_id", "window_start", "spent") == (None, None, "0")
    assert (await get(client, budget, "/windows"))["items"][0]["context_id"] == "young"


async def test_a_context_has_a_day_if_nothing_else_is_said(client: httpx2.AsyncClient) -> None:
    assert (await calls(client, 10, period="per_context"))["ttl_s"] == 86_400
    assert (await calls(client, 10, 200, period="per_context", ttl_s=60))["ttl_s"] == 60
    assert (await calls(client, 20, 200, period="per_context"))["ttl_s"] == 60
    found = (await client.get("/api/limits", params={"period": "per_context"})).json()["items"]
    assert [one["limit"] for one in found] == ["20"]


# --- what else may be said


async def test_what_is_said_is_kept_until_something_else_is_said(client: httpx2.AsyncClient) -> None:
    names = ("rollover_cap", "critical_may_pass", "alert_on")
    budget = await calls(client, 10, rollover_cap="7", critical_may_pass=True, alert_on=["committed", "spent"])
    assert some(budget, *names) == ("7", True, ["spent", "committed"])
    assert some(await calls(client, 20, 200), *names, "limit") == ("7", True, ["spent", "committed"], "20")
    path = f"/api/limits/{budget['budget_id']}"
    body = {"rollover_cap": None, "critical_may_pass": False, "alert_on": ["committed"]}
    assert some((await client.patch(path, json=body)).json(), *names) == (None, False, ["committed"])
    assert some((await client.patch(path, json={"rollover_cap": 3})).json(), *names) == ("3", False, ["committed"])
    assert some(await calls(client, 20, 200, rollover_cap=None), *names) == (None, False, ["committed"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"limit": None}, "limit", id="neither an amount nor a part"),
        pytest.param({"parent": NOBODY, "percent": 1}, "limit", id="both an amount and a part"),
        pytest.param({"limit": None, "parent": NOBODY}, "percent", id="a parent without a part of it"),
        pytest.param({"limit": None, "percent": 5}, "parent", id="a part of nothing"),
        pytest.param({"limit": None, "parent": "daily", "percent": 5}, "parent", id="a parent by its name"),
        pytest.param({"limit": None, "parent": NOBODY, "percent": 100.1}, "percent", id="more than the whole"),
        pytest.param({"limit": None, "parent": NOBODY, "percent": -1}, "percent", id="less than nothing"),
        pytest.param({"limit": None, "parent": NOBODY, "percent": "1.00001"}, "percent", id="five decimals"),
        pytest.param({"limit": None, "parent": NOBODY, "percent": True}, "percent", id="a percentage that is true"),
        pytest.param({"period": None}, "period", id="no period"),
        pytest.param({"rollover_cap": -1}, "rollover_cap", id="a negative cap"),
        pytest.param({"rollover_cap": 0.5}, "rollover_cap", id="a cap of half a call"),
        pytest.param({"period": "total", "rollover_cap": 1}, "rollover_cap", id="a total has no next window"),
        pytest.param({"period": "per_context", "rollover_cap": 1}, "rollover_cap", id="a context has no next window"),
        pytest.param({"ttl_s": 60}, "ttl_s", id="a daily limit has no ttl"),
        pytest.param({"period": "per_context", "ttl_s": 0}, "ttl_s", id="a context of no time"),
        pytest.param({"period": "per_context", "ttl_s": 31_536_001}, "ttl_s", id="a context of more than a year"),
        pytest.param({"critical_may_pass": "yes"}, "critical_may_pass", id="a word instead of true"),
        pytest.param({"alert_on": ["spend"]}, "alert_on.0", id="alerts on nothing that there is"),
        pytest.param({"alert_on": []}, "alert_on", id="alerts on nothing"),
        pytest.param({"alert_on": "spent"}, "alert_on", id="a name where a list is needed"),
    ],
)
async def test_a_limit_that_cannot_be_is_refused(client: httpx2.AsyncClient, body: dict[str, Any], field: str) -> None:
    said = {"period": "daily", "unit": "requests", "limit": 10, **body}
    assert wrong(await client.post("/api/limits", json=said)) == [field]
    assert (await client.get("/api/limits")).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"percent": 5}, "parent", id="a part of nothing"),
        pytest.param({"parent": NOBODY}, "percent", id="a parent without a part of it"),
        pytest.param({"parent": NOBODY, "percent": 5}, "parent", id="a parent that there is not"),
        pytest.param({"parent": None}, "parent", id="no parent is said by a limit"),
        pytest.param({"limit": 5, "percent": 5}, "limit", id="both an amount and a part"),
        pytest.param({"ttl_s": 60}, "ttl_s", id="a daily limit has no ttl"),
        pytest.param({"rollover_cap": "x"}, "rollover_cap", id="a cap that is no number"),
        pytest.param({"alert_on": None}, "alert_on", id="alerts on null"),
        pytest.param({"period": "weekly"}, "period", id="another period is another limit"),
    ],
)
async def test_a_change_that_cannot_be_is_refused(client: httpx2.AsyncClient, body: dict[str, Any], field: str) -> None:
    budget = await calls(client, 10)
    assert wrong(await client.patch(f"/api/limits/{budget['budget_id']}", json=body)) == [field]
    assert await get(client, budget) == {**budget, "as_of": (await get(client, budget))["as_of"]}


async def test_a_budget_in_another_currency_says_its_rate(client: httpx2.AsyncClient, books: Books) -> None:
    budget = await post(client, period="daily", limit="9", currency="CHF")
    rate = budget["exchange_rate"]
    assert (budget["currency"], rate["source_currency"], rate["stale"]) == ("CHF", "USD", False)
    assert rate["published"] == "2026-03-09"  # the day before the clock's
    await books.settle(usage())
    assert 0 < float((await get(client, budget))["spent"]) < 0.0035


async def test_a_currency_without_a_rate_is_refused_with_those_that_have_one(client: httpx2.AsyncClient) -> None:
    problem = await post(client, 422, period="daily", limit="9", currency="XAU")
    (error,) = problem["errors"]
    assert error["field"] == "currency"
    assert "CHF" in error["message"]
