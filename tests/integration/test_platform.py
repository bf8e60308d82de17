"""
What the platform's own documentation of Budget says works as it is written there: commands, settings, Python calls,
endpoints. Only the port is another.
"""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import websockets

from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings, load_settings
from tests.integration.budget_command import budget

COMMANDS = (
    "status",
    "set-limit daily 10.0",
    "get-usage --format json",
    "get-usage daily",
    "config get enforcement_level",
    "config set enforcement_level HARD_LIMIT",
    "limits list",
    "debug integrations",
    "db check",
    "recalculate --period daily",
    "prices update --all",
    "prices list",
    "prices set anthropic claude-3-opus --input 0.015 --output 0.075",
)
SETTINGS = """
BUDGET_PORT=8013                    # API port
BUDGET_AI_PORT=45013                # CI specialist port
BUDGET_DEFAULT_CURRENCY=USD         # Default currency
BUDGET_ENFORCEMENT_LEVEL=WARN       # Default enforcement
BUDGET_UPDATE_PRICES_ON_START=true  # Auto-update pricing
BUDGET_PRICE_UPDATE_INTERVAL=3600   # Update interval (seconds)
DAILY_BUDGET_LIMIT=50.0
WEEKLY_BUDGET_LIMIT=300.0
MONTHLY_BUDGET_LIMIT=1000.0
RHETOR_ALLOCATION=30
CODEX_ALLOCATION=25
ERGON_ALLOCATION=20
OTHER_ALLOCATION=25
"""
FIRST_EXAMPLE = """
    from types import SimpleNamespace
    response, llm, prompt = SimpleNamespace(input_tokens=700, output_tokens=200), None, ""
    from budget.client import BudgetClient

    client = BudgetClient(host="localhost", port={port})
    allowed, info = client.check_budget(
        provider="anthropic", model="claude-3-sonnet", estimated_tokens=1000, component="rhetor"
    )
    if allowed:
        client.record_usage(
            provider="anthropic",
            model="claude-3-sonnet",
            input_tokens=response.input_tokens,
            output_tokens=response.output_tokens,
            component="rhetor",
        )
    else:
        print(f"Budget exceeded: {{info['reason']}}")
"""
SECOND_EXAMPLE = """
    from budget.client import BudgetClient

    client = BudgetClient()
    allowed, info = client.check_budget(
        provider="anthropic", model="claude-3-opus", input_text="Hello, world!", component="my-component"
    )
    client.record_completion(
        provider="anthropic",
        model="claude-3-opus",
        input_text="Hello, world!",
        output_text="Hi there! How can I assist you today?",
        component="my-component",
    )
    print(allowed)
"""


@pytest.fixture
async def served(kafka: str, settings: Settings) -> AsyncIterator[Settings]:
    await apply_topics(settings)
    here = settings.model_copy(update={"host": "127.0.0.1", "port": free_port(), "check_timeout_ms": 30_000})
    async with settler(settings), decider(settings) as asked, gateway(here):
        await asked.ready.wait()
        yield here


async def run(code: str, settings: Settings) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(code).format(port=settings.port)),
        env={"BUDGET_PORT": str(settings.port), "PYTHONPATH": ":".join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said.decode()
    return said.decode()


async def test_every_command_works(served: Settings) -> None:
    for command in COMMANDS:
        await budget(served, *command.split(), BUDGET_PRICE_UPDATE_URL="http://127.0.0.1:9/data.json")


async def test_the_commands_of_the_platforms_old_command_line_work(served: Settings) -> None:
    await budget(served, "set-limit", "daily", "10", "--tier", "remote_heavyweight", "--policy-type", "hard_limit")
    await budget(served, "set-limit", "monthly", "10")
    made = (await budget(served, "allocate", "create", "monthly", "30", "--component", "rhetor")).out
    assert "30 % of monthly, 3 USD monthly" in made
    (part,) = (await budget(served, "allocate", "list", "--format", "json")).json
    assert (part["parent_name"], part["scope"], part["limit"]) == ("monthly", {"component": "rhetor"}, "3")
    assert "is no allocation" in (await budget(served, "allocate", "release", "monthly", code=1)).err
    assert part["budget_id"] in (await budget(served, "allocate", "release", part["budget_id"])).out
    call = ("openai", "gpt-4o", "--input-tokens", 1000, "--output-tokens", 200, "--format", "json")
    (cost,) = (await budget(served, "calc-cost", *call)).json
    assert (cost["estimated_cost"], cost["price_status"]) == ("0.0045", "priced")
    models = (await budget(served, "recommend", *call, "--alternative", "openai/gpt-4o-mini")).json
    assert [(one["model"], one["action"]) for one in models] == [("gpt-4o-mini", "allow"), ("gpt-4o", "allow")]
    bad = await budget(served, "recommend", "openai", "gpt-4o", "--alternative", "mini", code=1)
    assert "write provider/model" in bad.err
    assert (await budget(served, "holds", "list", "--format", "json")).json == []
    assert "ALERT_ID" in (await budget(served, "alerts", "acknowledge", "--help")).out


def test_the_settings_are_read(tmp_path: Path) -> None:
    file = tmp_path / ".env.budget"
    file.write_text(SETTINGS)
    settings = load_settings({}, env_file=file)
    assert (settings.port, settings.ai_port, settings.enforcement_level) == (8013, 45013, "WARN")
    assert {name: int(percent) for name, percent in settings.allocations.items()} == {
        "RHETOR": 30,
        "CODEX": 25,
        "ERGON": 20,
        "OTHER": 25,
    }


async def test_the_examples_check_and_record(served: Settings) -> None:
    assert await run(FIRST_EXAMPLE, served) == ""
    assert await run(SECOND_EXAMPLE, served) == "True\n"
    rows = []
    async with asyncio.timeout(30):
        while len(rows) < 2:
            rows = (await budget(served, "get-usage", "daily", "--group-by", "component", "--format", "json")).json[
                "groups"
            ]
    assert [(row["key"]["component"], row["requests"]) for row in rows] == [("my-component", 1), ("rhetor", 1)]
    # Who checks and then records is counted once: the record has settled the hold.
    assert (await budget(served, "holds", "list", "--format", "json")).json == []


async def test_the_endpoints_are_there(served: Settings) -> None:
    call = {"provider": "anthropic", "model": "claude-3-opus", "component": "rhetor"}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", timeout=60) as client:
        for method, path, body in (
            ("POST", "/api/check", {**call, "estimated_tokens": 1000}),
            ("POST", "/api/record", {**call, "input_tokens": 10, "output_tokens": 1}),
            ("GET", "/api/usage/daily", None),
            ("GET", "/api/reports/summary", None),
            ("POST", "/api/limits", {"period": "daily", "limit": 10}),
            ("GET", "/api/providers/prices", None),
            ("GET", "/api/status", None),
            ("GET", "/docs", None),
        ):
            answer = await client.request(method, path, json=body)
            assert answer.status_code < 300, (path, answer.text)


@pytest.mark.parametrize("path", ["/ws", "/ws/alerts"])
async def test_the_feeds_are_there(served: Settings, path: str) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{served.port}{path}") as socket:
        assert json.loads(await socket.recv())["type"] == "snapshot"
