"""Prices that are set while everything runs: over REST and the command line, in force with the next batch, audited."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.settings import Settings
from budget_bus.store.prices import set_price
from tests.integration.books import Books, check, usage
from tests.integration.budget_command import budget

PATH = "/api/providers/prices"
HOUSE = {"provider": "acme", "model": "house"}
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
ONE_EACH = {"input": [1_000_000, []], "output": [2_000_000, []]}  # 1 and 2 USD per million tokens


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


async def costs(pool: asyncpg.Pool) -> list[tuple[Any, ...]]:
    rows = await pool.fetch("SELECT cost_nanos, price_status, price_source FROM ledger ORDER BY recorded_at, event_id")
    return [tuple(row) for row in rows]


async def test_the_next_batch_of_a_running_settler_uses_it(books: Books) -> None:
    keeper = books.settler()
    event = {**HOUSE, "input_tokens": 1000, "output_tokens": 100}
    await books.settle(usage(**event), by=keeper)
    await set_price(books.pool, "acme", "house", ONE_EACH, effective_from=LONG_AGO, actor="test")
    await books.settle(usage(**event), by=keeper)
    assert await costs(books.pool) == [
        (None, "unpriced", ""),
        (1_200_000, "priced", "set by test, from 2020-01-01T00:00:00Z"),
    ]
    await books.assert_exact()


async def test_without_the_refresh_an_old_price_would_be_used(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> bool:
        return False

    monkeypatch.setattr("budget_bus.consumers.usage.refresh_prices", never)
    await set_price(books.pool, "acme", "house", ONE_EACH, effective_from=LONG_AGO, actor="test")
    await books.settle(usage(**HOUSE, input_tokens=1000, output_tokens=100))
    assert await costs(books.pool) == [(None, "unpriced", "")]


async def test_the_next_check_of_a_running_decider_uses_it(books: Books) -> None:
    await books.limit(10**9)
    judge = books.decider()
    question = {**HOUSE, "estimated_tokens": None, "input_tokens": 1000, "max_output_tokens": 100}
    (before,) = await books.ask(check(**question), by=judge)
    await set_price(books.pool, "acme", "house", ONE_EACH, effective_from=LONG_AGO, actor="test")
    (after,) = await books.ask(check(**question), by=judge)
    assert (before["action"], before["price_status"]) == ("deny", "unpriced")
    assert (after["action"], after["price_status"], after["estimated_cost"]) == ("allow", "priced", "0.0012")


async def test_setting_it_again_writes_nothing_and_a_change_is_a_fact(books: Books) -> None:
    async def put(rates: dict[str, Any]) -> bool:
        return await set_price(books.pool, "acme", "house", rates, effective_from=LONG_AGO, actor="test")

    assert await put(ONE_EACH)
    assert not await put(ONE_EACH)
    assert await put({**ONE_EACH, "output": [3_000_000, []]})
    rows = await books.pool.fetch("SELECT before, after, actor FROM change WHERE kind = 'price' ORDER BY at")
    assert [(row["before"] and row["before"]["rates"]["output"], row["after"]["rates"]["output"]) for row in rows] == [
        (None, [2_000_000, []]),
        ([2_000_000, []], [3_000_000, []]),
    ]
    published = await books.pool.fetch("SELECT key FROM outbox WHERE topic = 'budget.changes' ORDER BY outbox_id")
    assert [row["key"] for row in published] == [b"acme/house"] * 2


async def test_put_get_and_delete(client: httpx2.AsyncClient) -> None:
    body = {**HOUSE, "input": "0.015", "output": 0.075, "per": "1K", "effective_from": "2025-01-01T00:00:00Z"}
    answer = (await client.put(PATH, json=body)).json()
    assert (answer["before"], answer["changed"]) == (None, True)
    assert (answer["price"]["input"], answer["price"]["output"], answer["price"]["per"]) == ("0.015", "0.075", "1K")
    (listed,) = (await client.get(PATH, params={"provider": "ACME", "model": "house"})).json()["items"]
    assert (listed["input"], listed["output"], listed["own"]) == ("15", "75", True)
    (own,) = (await client.get(PATH, params={"own": "true"})).json()["items"]
    assert own["effective_from"] == "2025-01-01T00:00:00Z"
    again = (await client.put(PATH, json={**body, "input": "0.02"})).json()
    assert (again["before"]["input"], again["price"]["input"]) == ("0.015", "0.02")
    assert (await client.delete(PATH, params=HOUSE)).status_code == 204
    assert (await client.get(PATH, params=HOUSE)).json()["items"] == []
    assert (await client.delete(PATH, params=HOUSE)).status_code == 404


async def test_tiers_are_kept_and_charged(client: httpx2.AsyncClient, settings: Settings) -> None:
    tiers = [{"above_input_tokens": 200_000, "input": "4"}]
    body = {**HOUSE, "input": "2", "output": "8", "tiers": tiers, "effective_from": "2020-01-01T00:00:00Z"}
    answer = (await client.put(PATH, json=body)).json()
    assert answer["price"]["tiers"] == tiers


async def test_the_price_at_another_time_is_the_one_of_that_time(client: httpx2.AsyncClient) -> None:
    body = {"provider": "openai", "model": "gpt-4o", "input": "1", "output": "1"}
    await client.put(PATH, json={**body, "effective_from": "2026-01-01T00:00:00Z"})
    query = {"provider": "openai", "model": "gpt-4o"}
    (old,) = (await client.get(PATH, params={**query, "at": "2025-12-31T23:59:00Z"})).json()["items"]
    (new,) = (await client.get(PATH, params={**query, "at": "2026-01-01T00:00:00Z"})).json()["items"]
    assert (old["input"], old["own"], new["input"], new["own"]) == ("2.5", False, "1", True)


async def test_the_list_is_paged_and_complete(client: httpx2.AsyncClient) -> None:
    found, cursor = [], None
    while True:
        query = {"page_size": 1000, **({"cursor": cursor} if cursor else {})}
        page = (await client.get(PATH, params=query)).json()
        found += [(item["provider"], item["model"]) for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(found) == len(set(found)) > 1000
    assert ("anthropic", "claude-3-opus-latest") in found


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"input": None}, "input"),
        ({"input": "-1"}, "input"),
        ({"input": "cheap"}, "input"),
        ({"input": "0.0000001"}, "input"),
        ({"input": "1e12"}, "input"),
        ({"output": float("1e-300")}, "output"),
        ({"per": "1"}, "per"),
        ({"currency": "EUR"}, "currency"),
        ({"service_tier": "slow"}, "service_tier"),
        ({"effective_from": "2026-01-01T00:07:00Z"}, "effective_from"),
        ({"effective_from": "2026-01-01"}, "effective_from"),
        ({"tiers": [{"above_input_tokens": 5, "cache_read": "1"}]}, "tiers"),
        ({"tiers": [{"above_input_tokens": 5}, {"above_input_tokens": 5}]}, "tiers"),
        ({"inptu": "1"}, "inptu"),
        ({"provider": ""}, "provider"),
    ],
)
async def test_what_is_no_price_is_refused_by_the_name_of_its_field(
    client: httpx2.AsyncClient, change: dict[str, Any], field: str
) -> None:
    body = {**HOUSE, "input": "1", "output": "1", **change}
    answer = await client.put(PATH, json={name: value for name, value in body.items() if value is not None})
    assert answer.status_code == 422
    assert field in {error["field"].split(".")[0] for error in answer.json()["errors"]}
    assert (await client.get(PATH, params={"own": "true"})).json()["items"] == []


async def test_the_seeds_command_sets_a_price_per_thousand(kafka: str, settings: Settings) -> None:
    await apply_topics(settings)
    served = settings.model_copy(update={"port": free_port()})
    opus = ("anthropic", "claude-3-opus")
    async with gateway(served):
        told = await budget(served, "prices", "set", *opus, "--input", "0.02", "--output", "0.09")
        assert "0.02 in, 0.09 out USD per 1K" in told.out
        assert "until now 0.015 in, 0.075 out USD per 1K" in told.out
        listed = await budget(served, "prices", "list", "--provider", "anthropic", "--own", "--format", "csv")
        assert ",20,90," in listed.out
        bad = await budget(served, "prices", "set", *opus, "--input", "free", "--output", "0", code=1)
        assert "input" in bad.err
        assert "0.015 in, 0.075 out" in (await budget(served, "prices", "unset", *opus)).out
        assert "claude-3-opus" in (await budget(served, "prices", "list")).out


def second_table(**rows: dict[str, Any]) -> bytes:
    return json.dumps(rows).encode()


async def test_a_second_table_is_shown_where_it_disagrees(client: httpx2.AsyncClient) -> None:
    ours = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-6}
    table = second_table(**{"gpt-4o": {**ours, "output_cost_per_token": 2e-5}, "unheard-of": ours})
    answer = (await client.post(f"{PATH}/compare", content=table)).json()
    assert (answer["compared"], answer["agree"]) == (2, 1)
    (one,) = answer["disagreements"]
    assert (one["model"], one["token_class"], one["ours"], one["theirs"]) == ("gpt-4o", "output", "10", "20")
    price = {"provider": "openai", "model": "gpt-4o", "input": "2.5", "output": "20"}
    await client.put(PATH, json=price)
    assert (await client.post(f"{PATH}/compare", content=table)).json()["disagreements"] == []
    none = await client.post(f"{PATH}/compare", content=table, params={"provider": "anthropic"})
    assert none.json()["compared"] == 0


@pytest.mark.parametrize("table", [b"", b"[]", b'{"gpt-4o": 7}', b"{"])
async def test_what_is_no_second_table_is_refused(client: httpx2.AsyncClient, table: bytes) -> None:
    response = await client.post(f"{PATH}/compare", content=table)
    assert response.status_code == 422, response.text
    assert [error["field"] for error in response.json()["errors"]] == ["table"]


async def test_the_command_compares(kafka: str, settings: Settings, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    row = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 3e-6, "output_cost_per_token": 1e-5}
    table.write_bytes(second_table(**{"gpt-4o": row}))
    await apply_topics(settings)
    settings = settings.model_copy(update={"port": free_port()})
    async with gateway(settings):
        told = await budget(settings, "prices", "compare", str(table), "--format", "json")
        missing = await budget(settings, "prices", "compare", str(tmp_path / "none"), code=2)
    assert [one["theirs"] for one in told.json] == ["3"]
    assert "1 of 2 figures agree" in told.err
    assert "No such file" in missing.err
