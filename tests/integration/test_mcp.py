"""Agents with a real gateway: over HTTP at /mcp/, over standard input and output, and within a budget."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from budget_bus.http.server import gateway
from budget_bus.keys.file import add_key, make_key
from budget_bus.keys.key import KeyRole
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings
from tests.integration.budget_command import environment

OPUS = {"component": "rhetor", "provider": "anthropic", "model": "claude-3-opus", "input_tokens": 1000}  # 0.015 dollars
SONNET = "anthropic/claude-3-5-sonnet"
UUID = "6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10"


@asynccontextmanager
async def serving(settings: Settings, **changed: Any) -> AsyncIterator[Settings]:
    await apply_topics(settings)
    here = settings.model_copy(update={"host": "127.0.0.1", "port": free_port(), "check_timeout_ms": 30_000, **changed})
    async with settler(settings), decider(settings), gateway(here):
        yield here


@pytest.fixture
async def served(kafka: str, settings: Settings) -> AsyncIterator[Settings]:
    async with serving(settings) as here:
        yield here


def url(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.port}"


async def post(settings: Settings, path: str, body: Any, method: str = "POST") -> Any:
    async with httpx2.AsyncClient(base_url=url(settings), timeout=60) as client:
        answer = await client.request(method, path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()


async def ask(agent: Client, tool: str, arguments: dict[str, Any], *, error: bool = False) -> tuple[str, Any]:
    told = await agent.call_tool(tool, arguments)
    text: str = told.content[0].text  # type: ignore[union-attr]
    assert bool(told.is_error) is error, text
    return text, told.structured_content


async def test_an_agent_checks_records_and_learns_what_is_left(served: Settings) -> None:
    await post(served, "/api/limits", {"period": "daily", "limit": 1, "policy": "HARD_LIMIT", "name": "daily"})
    async with Client(f"{url(served)}/mcp/") as agent:
        text, answer = await ask(agent, "check_budget", {**OPUS, "max_output_tokens": 0})
        assert text.startswith("Allowed: at most 1000 tokens and 0.03 USD.")
        assert f"record the usage with request_id {answer['request_id']}" in text
        used = {**OPUS, "output_tokens": 0, "request_id": answer["request_id"]}
        text, recorded = await ask(agent, "RecordUsage", used)
        assert text == "Recorded: 1000 tokens, 0.015 USD."
        assert recorded["cost"] == "0.015"
        text, _ = await ask(agent, "GetBudgetStatus", {})
        assert "daily (daily, HARD_LIMIT): 0.015 spent, 0 held, 0 unconfirmed of 1 USD; 0.985 available" in text
        text, _ = await ask(agent, "get_usage", {"period": "daily", "group_by": ["component", "model"]})
        assert "rhetor, claude-3-opus: 1 calls, 1000 tokens, 0.015 USD." in text
        text, found = await ask(agent, "list_limits", {})
        assert (len(found["items"]), "0.985 available" in text) == (1, True)
        text, _ = await ask(agent, "forecast", {})
        assert "daily: " in text


async def test_a_denial_is_explained_also_afterwards(served: Settings) -> None:
    await post(served, "/api/limits", {"period": "daily", "limit": "0.001", "policy": "HARD_LIMIT", "name": "tiny"})
    async with Client(f"{url(served)}/mcp/") as agent:
        text, answer = await ask(agent, "check_budget", {**OPUS, "max_output_tokens": 0})
        assert text.startswith("Denied: ")
        assert "What binds is tiny (daily, HARD_LIMIT)" in text
        assert f"It frees up at {answer['resets_at']}." in text
        later, same = await ask(agent, "explain_decision", {"request_id": answer["request_id"]})
        assert later.endswith(text)
        assert same == answer


async def test_a_denial_by_a_pause_is_explained(served: Settings) -> None:
    body = {"scope": {"component": "rhetor"}, "reason": "a loop", "ttl_s": 600}
    await post(served, "/api/pauses", body)
    async with Client(f"{url(served)}/mcp/") as agent:
        text, answer = await ask(agent, "check_budget", {**OPUS, "max_output_tokens": 0})
        assert text.startswith("Denied: paused: a loop.")
        assert f"It frees up at {answer['resets_at']}." in text
        later, same = await ask(agent, "explain_decision", {"request_id": answer["request_id"]})
        assert (later.endswith(text), same) == (True, answer)


async def test_it_is_routed_to_what_fits(served: Settings) -> None:
    await post(served, "/api/config/equivalents", {"value": [["anthropic/claude-3-opus", SONNET]]}, "PUT")
    await post(served, "/api/limits", {"period": "daily", "limit": "0.01", "policy": "HARD_LIMIT", "name": "small"})
    call = {**OPUS, "max_output_tokens": 0}
    async with Client(f"{url(served)}/mcp/") as agent:
        text, found = await ask(agent, "recommend_model", {**call, "alternatives": ["ollama/llama3"]})
        names = [f"{one['provider']}/{one['model']}" for one in found["models"]]
        assert names[0] == "ollama/llama3"
        assert SONNET in names
        assert "anthropic/claude-3-opus" not in names
        text, routed = await ask(agent, "RouteWithBudgetAwareness", {**call, "alternatives": ["ollama/llama3"]})
        assert (routed["provider"], routed["decision"]["hold"] is not None) == ("anthropic", True)
        assert "instead of anthropic/claude-3-opus, which is denied" in text
        # Only what it was routed to is held.
        async with httpx2.AsyncClient(base_url=url(served)) as client:
            (hold,) = (await client.get("/api/holds")).json()["items"]
        assert hold["model"] == routed["model"]


async def test_an_agent_is_told_what_would_save_money(served: Settings) -> None:
    await post(served, "/api/config/equivalents", {"value": [["anthropic/claude-3-opus", SONNET]]}, "PUT")
    await post(served, "/api/record?wait=true", {**OPUS, "output_tokens": 0})
    async with Client(f"{url(served)}/mcp/") as agent:
        text, advice = await ask(agent, "optimize", {"days": 1})
        (one,) = advice["suggestions"]
        # 1,000 tokens at 3 instead of 15 dollars per million.
        assert (one["saving"], advice["total_saving"]) == ("0.012", "0.012")
        assert text.startswith(f"rhetor: {SONNET} instead of anthropic/claude-3-opus: saves 0.012 USD.")
        assert f"To do it: {one['apply']['command']}" in text


async def test_what_fits_nowhere_runs_at_home_or_not_at_all(served: Settings) -> None:
    await post(served, "/api/limits", {"period": "daily", "limit": "0.000001", "policy": "HARD_LIMIT", "name": "none"})
    call = {**OPUS, "max_output_tokens": 0}
    async with Client(f"{url(served)}/mcp/") as agent:
        _, routed = await ask(agent, "route_with_budget_awareness", {**call, "alternatives": ["ollama/llama3"]})
        assert (routed["provider"], routed["model"]) == ("ollama", "llama3")
        text, nothing = await ask(agent, "route_with_budget_awareness", call)
        assert (nothing["model"], text.startswith("No model fits. Denied: ")) == (None, True)


async def test_mistakes_are_told_with_the_fix(served: Settings) -> None:
    async with Client(f"{url(served)}/mcp/") as agent:
        text, _ = await ask(agent, "check_budget", {"component": "a", "provider": "b", "model": "c"}, error=True)
        assert "estimated_tokens" in text
        assert "422 invalid-input" in text
        text, _ = await ask(agent, "explain_decision", {"request_id": UUID}, error=True)
        assert f"no decision {UUID}" in text
        text, _ = await ask(agent, "recommend_model", {**OPUS, "alternatives": ["gpt-4o"]}, error=True)
        assert "write provider/model" in text


async def test_an_allocation_is_given(served: Settings) -> None:
    parent = await post(served, "/api/limits", {"period": "daily", "limit": 10, "name": "daily"})
    async with Client(f"{url(served)}/mcp/") as agent:
        given = {"parent": parent["budget_id"], "percent": 12.5, "component": "codex"}
        _, made = await ask(agent, "AllocateBudget", given)
    assert (made["limit"], made["percent"], made["scope"]) == ("1.25", "12.5", {"component": "codex"})


async def test_with_keys_each_tool_needs_the_role_of_what_it_asks(
    kafka: str, settings: Settings, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    now = datetime.now(UTC)
    add_key(keys, make_key("bdgt_r", name="reader", roles=[KeyRole.READ], components=[], created_at=now))
    async with serving(settings, api_keys_file=keys) as here:
        for headers, status in (({}, 401), ({"Authorization": "Bearer bdgt_x"}, 401)):
            async with httpx2.AsyncClient(headers=headers) as client:
                assert (await client.post(f"{url(here)}/mcp/", json={})).status_code == status
        async with (
            httpx2.AsyncClient(headers={"Authorization": "Bearer bdgt_r"}) as http,
            Client(streamable_http_client(f"{url(here)}/mcp/", http_client=http)) as agent,
        ):
            assert "There are no budgets." in (await ask(agent, "get_budget_status", {}))[0]
            text, _ = await ask(agent, "check_budget", OPUS, error=True)
            assert "needs a key with the role check" in text


async def test_another_name_for_this_machine_is_refused(served: Settings) -> None:
    # A page whose name was made to lead here would be of the same site as we are, for its browser.
    async with httpx2.AsyncClient(base_url=url(served)) as client:
        refused = await client.post("/mcp/", json={}, headers={"Host": "evil.example"})
    assert refused.status_code == 421


async def test_a_client_that_starts_its_servers_has_the_same_tools(served: Settings) -> None:
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "budget_bus.cli", "mcp"], env={**os.environ, **environment(served)}
    )
    async with Client(command) as agent:
        text, _ = await ask(agent, "CheckBudget", {**OPUS, "max_output_tokens": 0})
        assert text.startswith("Allowed")
