"""The tools that agents see: their names, what they take, and that the platform's names are the same tools."""

from __future__ import annotations

import httpx2
from mcp import Client
from mcp.types import Tool

from budget_bus.mcp.server import ALIASES, TOOLS, build_server

# What an agent has been told stays: a name or a required argument that changes breaks it.
TAKES = {
    "check_budget": {"component", "provider", "model"},
    "record_usage": {"component", "provider", "model", "input_tokens", "output_tokens"},
    "get_budget_status": set(),
    "get_usage": set(),
    "list_limits": set(),
    "recommend_model": {"component", "provider", "model", "input_tokens"},
    "route_with_budget_awareness": {"component", "provider", "model", "input_tokens"},
    "explain_decision": {"request_id"},
    "list_decisions": set(),
    "list_holds": set(),
    "list_alerts": set(),
    "list_prices": {"model"},
    "forecast": set(),
    "optimize": set(),
    "plan_budget": {"component", "until"},
    "allocate_budget": {"parent", "percent", "component"},
}
NOBODY = "http://127.0.0.1:9"


async def listed() -> dict[str, Tool]:
    async with httpx2.AsyncClient(base_url=NOBODY) as client, Client(build_server(client)) as agent:
        return {tool.name: tool for tool in (await agent.list_tools()).tools}


async def test_the_tools_are_as_agents_know_them() -> None:
    found = await listed()
    assert found.keys() == TAKES.keys() | ALIASES.keys()
    assert {name: {*found[name].input_schema.get("required", ())} for name in TAKES} == TAKES
    assert "ctx" not in str([tool.input_schema for tool in found.values()])


async def test_each_tool_and_argument_says_what_it_is() -> None:
    for tool in (await listed()).values():
        assert tool.description
        assert tool.description[-1] == "."
        assert tool.annotations is not None
        for name, schema in tool.input_schema["properties"].items():
            assert schema.get("description") or name == "period", (tool.name, name)


async def test_a_name_of_the_platform_is_the_same_tool() -> None:
    found = await listed()
    for alias, function in ALIASES.items():
        ours = found[function.__name__]
        assert function in TOOLS
        assert (found[alias].input_schema["properties"], found[alias].description) == (
            ours.input_schema["properties"],
            ours.description,
        )


async def test_a_service_that_is_away_is_an_error_in_words() -> None:
    async with httpx2.AsyncClient(base_url=NOBODY) as client, Client(build_server(client)) as agent:
        told = await agent.call_tool("get_budget_status", {})
    assert told.is_error
    assert "does not answer" in told.content[0].text  # type: ignore[union-attr]
