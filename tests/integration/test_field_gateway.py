"""
What users of other budget services saw of limits set over REST, told again of this gateway with all consumers at work.

Each test says whose complaint it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings
from tests.integration.http_client import client_of

CALL: dict[str, Any] = {"component": "rhetor", "provider": "openai", "model": "gpt-4o"}
USED: dict[str, Any] = {**CALL, "input_tokens": 1000, "output_tokens": 100}  # 0.0035 USD
ASKED: dict[str, Any] = {**CALL, "estimated_tokens": 1000}  # at most 0.01 USD


@asynccontextmanager
async def replica(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway of its own."""
    # Patient, because the first question also waits until the decider has joined its group.
    async with client_of(settings.model_copy(update={"check_timeout_ms": 30_000}), settling_patience_s=30) as client:
        yield client


@pytest.fixture
async def consumers(kafka: str, settings: Settings) -> AsyncIterator[None]:
    await apply_topics(settings)
    async with settler(settings), decider(settings):
        yield


@pytest.fixture
async def client(consumers: None, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with replica(settings) as client:
        yield client


async def limit(client: httpx2.AsyncClient, amount: str, **fields: Any) -> dict[str, Any]:
    body = {"period": "daily", "limit": amount, "policy": "HARD_LIMIT", **fields}
    response = await client.post("/api/limits", json=body)
    assert response.status_code in (200, 201), response.text
    budget: dict[str, Any] = response.json()
    return budget


async def check(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await client.post("/api/check", json={**ASKED, **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def record(client: httpx2.AsyncClient, **fields: Any) -> None:
    response = await client.post("/api/record?wait=true", json={**USED, **fields})
    assert response.status_code == 200, response.text


async def test_a_limit_that_was_accepted_is_kept_and_enforced(client: httpx2.AsyncClient) -> None:
    """A virtual key's limits were neither saved nor enforced: maximhq/bifrost #5673."""
    made = await limit(client, "0.015")
    shown = (await client.get(f"/api/limits/{made['budget_id']}")).json()
    assert (shown["limit"], shown["policy"], shown["period"]) == ("0.015", "HARD_LIMIT", "daily")
    assert [(await check(client))["allowed"] for _ in range(2)] == [True, False]


async def test_a_limit_is_in_force_without_anything_else_being_switched_on(client: httpx2.AsyncClient) -> None:
    """The limiter of the global budget was made, but never registered: BerriAI/litellm #27381."""
    await limit(client, "0")
    assert not (await check(client))["allowed"]


async def test_a_limit_whose_field_is_misspelt_is_refused_and_not_half_kept(client: httpx2.AsyncClient) -> None:
    """Limits were sent and not kept, and nothing said so: maximhq/bifrost #5673."""
    body = {"period": "daily", "limit": "0.015", "polcy": "HARD_LIMIT"}
    response = await client.post("/api/limits", json=body)
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "polcy")
    assert (await client.get("/api/limits")).json()["items"] == []


async def test_110_calls_over_rest_on_a_fresh_installation_accrue_and_are_enforced(client: httpx2.AsyncClient) -> None:
    """About 110 requests on a fresh install were neither counted nor refused: langwatch/langwatch #6141."""
    budget = await limit(client, "0.385")  # 110 calls of 0.0035 USD

    async def one_after_the_other(count: int) -> None:
        for _ in range(count):
            await record(client)

    await asyncio.gather(*(one_after_the_other(10) for _ in range(11)))
    shown = (await client.get(f"/api/limits/{budget['budget_id']}")).json()
    assert (shown["spent"], shown["available"]) == ("0.385", "0")
    assert not (await check(client))["allowed"]


async def test_two_gateways_have_one_cap(consumers: None, settings: Settings) -> None:
    """Each replica had a cap of its own: maximhq/bifrost #3547, BerriAI/litellm #33325."""
    async with replica(settings) as one, replica(settings) as other:
        await limit(one, "0.05")
        answers = await asyncio.gather(*(check(client, user=f"u-{i}") for i in range(8) for client in (one, other)))
    assert sum(answer["allowed"] for answer in answers) == 5


async def test_a_refusal_and_the_report_tell_the_same_spend(client: httpx2.AsyncClient) -> None:
    """A key was refused for a spend that its own page did not show: BerriAI/litellm #27735, #40050."""
    budget = await limit(client, "0.01")
    answer = await check(client)
    await record(client, request_id=answer["request_id"])
    denied = await check(client)
    assert not denied["allowed"]
    (line,) = denied["budgets"]
    shown = (await client.get(f"/api/limits/{budget['budget_id']}")).json()
    report = (await client.get("/api/usage/daily")).json()
    assert line["spent"] == shown["spent"] == report["totals"]["cost"] == "0.0035"
    assert line["held"] == shown["held"] == "0"
    assert denied["resets_at"] == shown["window_end"]
