"""What a suggestion says to do is done: by its command, by its request, and by `budget optimize --apply`."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx2
import pytest

from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.settings import Settings
from budget_bus.store import config
from tests.integration.books import BOUND, USD, Books, check, usage
from tests.integration.budget_command import budget

GROUP = ["openai/gpt-4o", "openai/gpt-4o-mini"]


@pytest.fixture
async def served(kafka: str, settings: Settings) -> AsyncIterator[Settings]:
    await budget(settings, "topics", "apply")
    here = settings.model_copy(update={"port": free_port()})
    async with gateway(here):
        yield here


@pytest.fixture
async def books(pool: asyncpg.Pool) -> Books:
    """
    A chat that could use a cheaper model; a budget `tight` that refused it; one `wide` that nobody needed for three
    days; and one `all`, of which codex was refused what rhetor left.
    """
    books = Books(pool)
    await config.set_value(pool, "equivalents", [GROUP], actor="test")
    await books.limit(USD, name="wide", scope={"component": "ergon"})
    for days in (1, 2, 3):
        await books.settle(usage(component="ergon", occurred_at=_ago(days=days), model="gpt-4o-mini"))
    await books.limit(2 * BOUND, name="tight", scope={"component": "penia"})
    parent = await books.limit(4 * BOUND, name="all", scope={"component": ["codex", "rhetor"]})
    for name in ("codex", "rhetor"):
        part = {"parent_id": parent.budget_id, "percent": Decimal(50)}
        await books.limit(0, name=name, scope={"component": name}, **part)
    await books.ask(*(check(component=component, task_type="chat") for component in ["penia", "codex"] * 3))
    await books.settle(usage(component="penia", task_type="chat", occurred_at=_ago(minutes=1)))
    await books.settle(usage(component="rhetor", model="gpt-4o-mini", occurred_at=_ago(minutes=1)))
    return books


def _ago(**by: float) -> str:
    return (datetime.now(UTC) - timedelta(**by)).isoformat()


async def asked(served: Settings, method: str, path: str, body: Any = None) -> Any:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", timeout=60) as client:
        answer = await client.request(method, path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()


async def by_command(served: Settings, number: int, one: dict[str, Any]) -> None:
    program, *words = shlex.split(one["apply"]["command"])
    assert program == "budget"
    await budget(served, *words)


async def by_request(served: Settings, number: int, one: dict[str, Any]) -> None:
    await asked(served, one["apply"]["method"], one["apply"]["path"], one["apply"]["body"])


async def by_number(served: Settings, number: int, one: dict[str, Any]) -> None:
    done = await budget(served, "optimize", "--apply", number, "--yes")
    assert done.out.strip() == one["apply"]["command"]


@pytest.mark.parametrize("apply", [by_command, by_request, by_number])
async def test_each_suggestion_can_be_put_into_effect(served: Settings, books: Books, apply: Any) -> None:
    found = (await asked(served, "POST", "/api/optimize"))["suggestions"]
    kinds = [one["kind"] for one in found]
    assert sorted(kinds) == ["cheaper_model", "lower_limit", "raise_limit", "reallocation"]
    # The last first, so that those before keep their numbers.
    for number, one in reversed([*enumerate(found, 1)]):
        await apply(served, number, one)
    limits = {one["name"]: one for one in (await asked(served, "GET", "/api/limits"))["items"]}
    assert Decimal(limits["wide"]["limit"]) < Decimal("0.01")
    assert Decimal(limits["tight"]["limit"]) == Decimal("0.034")
    assert (limits["codex"]["percent"], limits["rhetor"]["percent"]) == ("75", "25")
    (answer,) = await books.ask(check(component="penia", task_type="chat", hold=False))
    assert (answer["action"], answer["allowed"]) == ("degrade", True)
    assert "penia, chat: use openai/gpt-4o-mini" in answer["reason"]
    (other,) = await books.ask(check(component="penia", task_type="chat", model="gpt-4o-mini"))
    assert other["action"] == "allow"


async def test_a_budget_of_the_operator_is_never_overwritten_by_advice(served: Settings, books: Books) -> None:
    scope = {"component": "penia", "provider": "openai", "model": "gpt-4o", "task_type": "chat"}
    mine = {"period": "daily", "unit": "requests", "limit": "5", "scope": scope, "name": "mine"}
    await asked(served, "POST", "/api/limits", mine)
    found = (await asked(served, "POST", "/api/optimize", {"goal": "cost"}))["suggestions"]
    await by_request(served, 1, found[0])
    limits = {one["name"]: one for one in (await asked(served, "GET", "/api/limits"))["items"]}
    assert limits["mine"]["limit"] == "5"
    assert limits["penia, chat: use openai/gpt-4o-mini"]["period"] == "weekly"


async def test_the_command_lists_explains_and_says_no(served: Settings, books: Books) -> None:
    table = await budget(served, "optimize", "--explain")
    assert "penia, chat: openai/gpt-4o-mini instead of openai/gpt-4o" in table.out
    assert "Assumed: The operator names the two as equal in use" in table.out
    # 0.0035 dollars less 0.00021, less the 0.0006 of the check that would then have been allowed.
    assert "cheaper calls together: 0.00269 of 0.00434 USD" in table.out
    lines = (await budget(served, "optimize", "--goal", "cost", "--format", "csv")).out.splitlines()
    assert lines[0] == "number,saving,share,kind,title,command"
    assert len(lines) == 2
    assert (await budget(served, "optimize", "--format", "json")).json["currency"] == "USD"
    assert "there is no suggestion 99" in (await budget(served, "optimize", "--apply", 99, code=1)).err
    assert "openai/gpt-4o" in (await budget(served, "optimize", "--also-consider", "x", code=2)).err
