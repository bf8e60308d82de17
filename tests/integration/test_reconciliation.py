"""The books beside the providers' exports, over HTTP and the command."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.integration.books import Books, usage

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = 1_772_323_200  # 2026-03-01 UTC
PATH = "/api/reconciliation"
MARCH = {"start": "2026-03-01", "end": "2026-04-01"}


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


def costs(*results: tuple[str, str], days: int = 1) -> dict[str, Any]:
    """OpenAI's export: *results* (item, dollars) on the first day, nothing on the others."""
    told = [{"amount": {"value": value, "currency": "usd"}, "line_item": item} for item, value in results]
    buckets = [
        {"start_time": DAY + n * 86_400, "end_time": DAY + (n + 1) * 86_400, "results": [] if n else told}
        for n in range(days)
    ]
    return {"object": "page", "data": buckets, "has_more": False}


async def take(client: httpx2.AsyncClient, export: Any, status: int = 201) -> dict[str, Any]:
    response = await client.post(f"{PATH}/exports", content=json.dumps(export))
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def drifts(client: httpx2.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    response = await client.get(PATH, params={**MARCH, **query})
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def spent(books: Books, **fields: Any) -> None:
    """0.0035 dollars."""
    await books.settle(usage(occurred_at=NOON.isoformat(), **fields))


async def test_drift_is_shown_to_the_nano_per_model_and_day(books: Books, client: httpx2.AsyncClient) -> None:
    await spent(books, model="gpt-4o-2024-08-06")
    await spent(books, model="gpt-4o")
    done = await take(
        client, costs(("gpt-4o-2024-08-06, input", "0.005"), ("gpt-4o-2024-08-06, output", "0.003000001"))
    )
    assert (done["provider"], done["lines"], done["changed"], done["missing_days"]) == ("openai", 2, 2, [])
    (noted,) = (await client.get("/api/changes?kind=config")).json()["items"]
    assert (noted["after"]["invoice"]["provider"], noted["after"]["invoice"]["changed_lines"]) == ("openai", 2)
    (drift,) = await drifts(client)
    assert (drift["day"], drift["ours"], drift["theirs"]) == ("2026-03-01", "0.007", "0.008000001")
    assert (drift["difference"], drift["drift_percent"]) == ("0.001000001", "12.5")
    assert drift["names"] == ["gpt-4o", "gpt-4o-2024-08-06"]  # one model under two names
    assert drift["requests"] == 2


async def test_the_same_export_again_changes_nothing_and_a_newer_one_replaces_its_days(
    books: Books, client: httpx2.AsyncClient
) -> None:
    await take(client, costs(("gpt-4o, input", "1"), ("Web searches", "2"), days=2))
    assert (await take(client, costs(("gpt-4o, input", "1"), ("Web searches", "2"), days=2)))["changed"] == 0
    assert (await take(client, costs(("gpt-4o, input", "1.5"), days=2)))["changed"] == 2
    (drift,) = await drifts(client)
    assert (drift["theirs"], drift["ours"], drift["drift_percent"]) == ("1.5", "0", "100.0")


async def test_what_names_no_model_and_what_has_no_price_are_lines_of_their_own(
    books: Books, client: httpx2.AsyncClient
) -> None:
    await spent(books, model="unheard-of")
    await take(client, costs(("Web searches", "2")))
    searches, unpriced = await drifts(client)
    assert (searches["model"], searches["theirs"], searches["items"]) == (None, "2", ["Web searches"])
    assert (unpriced["model"], unpriced["ours"], unpriced["unpriced_requests"]) == ("unheard-of", "0", 1)


async def test_days_and_providers_without_an_export_are_not_compared(books: Books, client: httpx2.AsyncClient) -> None:
    await spent(books, provider="anthropic", model="claude-sonnet-4-20250514")
    await books.settle(usage(occurred_at="2026-03-02T00:00:00Z"))
    await books.settle(usage(occurred_at="2026-02-28T23:59:59Z"))
    await spent(books)
    await take(client, costs(("gpt-4o", "0.0035")))
    (drift,) = await drifts(client)
    assert (drift["provider"], drift["difference"], drift["drift_percent"]) == ("openai", "0", "0.0")


async def test_it_is_filtered_and_paged(client: httpx2.AsyncClient) -> None:
    await take(client, costs(("gpt-4o", "1"), ("gpt-4o-mini", "2"), ("o3", "3")))
    assert [one["model"] for one in await drifts(client, model="gpt-4o-mini")] == ["gpt-4o-mini"]
    assert await drifts(client, provider="anthropic") == []
    first = (await client.get(PATH, params={**MARCH, "page_size": 2})).json()
    rest = (await client.get(PATH, params={**MARCH, "page_size": 2, "cursor": first["next_cursor"]})).json()
    assert [one["model"] for one in first["items"] + rest["items"]] == ["gpt-4o", "gpt-4o-mini", "o3"]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    ("export", "field"),
    [({"data": [7]}, "data.0"), ({}, "export"), (costs(("x", "much")), "data.0.results.0.amount.value")],
)
async def test_an_unusable_export_is_refused_and_nothing_is_taken(
    client: httpx2.AsyncClient, export: Any, field: str
) -> None:
    problem = await take(client, export, 422)
    assert [error["field"] for error in problem["errors"]] == [field]
    assert await drifts(client) == []


async def test_an_unusable_range_is_refused(client: httpx2.AsyncClient) -> None:
    response = await client.get(PATH, params={"start": "2026-04-01", "end": "2026-03-01"})
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["end"]


async def test_a_drift_is_alerted_of_once_for_the_same_days(books: Books, client: httpx2.AsyncClient) -> None:
    await spent(books)
    export = costs(("gpt-4o, input", "0.0036"), ("o3", "1"), days=2)  # 2.7 % off, and a model that nobody recorded
    assert (await take(client, export))["alerts"] == 1
    assert (await take(client, export))["alerts"] == 0
    (alert,) = (await client.get("/api/alerts")).json()["items"]
    assert (alert["type"], alert["name"], alert["currency"]) == ("price_drift", "openai/o3", "USD")
    assert (alert["limit"], alert["spent"]) == ("1", "0")
    assert (alert["window_start"], alert["window_end"]) == ("2026-03-01T00:00:00Z", "2026-03-03T00:00:00Z")
    assert await books.pool.fetchval("SELECT count(*) FROM outbox WHERE topic = 'budget.alerts'") == 1
    await spent(books, model="o3", input_tokens=500_000, output_tokens=0)  # 1 dollar
    assert (await take(client, export))["alerts"] == 0
    assert [one["drift_percent"] for one in await drifts(client)] == ["2.7", "0.0"]


@pytest.mark.parametrize("days", [{"end": "0001-01-01"}, {"start": "9998-01-01", "end": "9999-12-31"}])
async def test_days_at_the_ends_of_the_calendar_are_refused_by_name(client, days):
    response = await client.get(PATH, params=days)
    assert response.status_code == 422, response.text
    assert {error["field"] for error in response.json()["errors"]} <= set(days)
