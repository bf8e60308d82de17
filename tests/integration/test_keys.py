"""Keys on a gateway that others can reach: commands, clients and the audit, with the real books behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from budget_bus.client import AsyncBudgetClient
from budget_bus.errors import Forbidden, Unauthorized
from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings
from tests.integration.budget_command import budget

CALL: dict[str, Any] = {"provider": "openai", "model": "gpt-4o"}


async def added(settings: Settings, name: str, *options: str) -> str:
    return (await budget(settings, "keys", "add", name, "--file", settings.api_keys_file, *options)).out.strip()


async def known(settings: Settings, key: str, *, yes: bool = True) -> None:
    """Return as soon as the gateway knows *key*, or no longer does."""
    async with httpx2.AsyncClient(headers=bearer(key)) as client, asyncio.timeout(30):
        while ((await client.get(f"{url(settings)}/metrics")).status_code != 401) is not yes:
            pass


async def in_force(settings: Settings, name: str, *options: str) -> str:
    """A key that the running gateway knows."""
    key = await added(settings, name, *options)
    await known(settings, key)
    return key


def url(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.port}"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def settings_with_keys(settings: Settings, tmp_path: Path) -> Settings:
    everywhere = "0.0.0.0"  # noqa: S104  # what keys are for
    return settings.model_copy(
        update={"host": everywhere, "port": free_port(), "api_keys_file": tmp_path / "keys.json"}
    )


@pytest.fixture
async def admin(settings_with_keys: Settings) -> str:
    return await added(settings_with_keys, "ops", "--role", "admin")


@pytest.fixture
async def served(kafka: str, settings_with_keys: Settings, admin: str) -> AsyncIterator[Settings]:
    await apply_topics(settings_with_keys)
    async with gateway(settings_with_keys):
        yield settings_with_keys


async def test_commands_need_the_key_and_the_audit_names_it(served: Settings, admin: str, pool: asyncpg.Pool) -> None:
    reader = await in_force(served, "reader", "--role", "read")
    nobody = await budget(served, "limits", "list", code=1)
    assert "set BUDGET_API_KEY to a key" in nobody.err
    assert (await budget(served, "limits", "list", "--format", "json", BUDGET_API_KEY=reader)).json == []
    refused = await budget(served, "set-limit", "daily", "10", code=1, BUDGET_API_KEY=reader)
    assert "needs a key with the role admin; key:reader has only read" in refused.err
    await budget(served, "set-limit", "daily", "10", BUDGET_API_KEY=admin)
    assert await pool.fetchval("SELECT DISTINCT actor FROM change WHERE kind = 'limit'") == "key:ops"


async def test_a_bound_key_ends_only_the_holds_of_its_component(served: Settings) -> None:
    roles = ("--role", "check", "--role", "record")
    keys = {name: await in_force(served, name, *roles, "--component", name) for name in ("rhetor", "apollo")}
    here = {"host": "127.0.0.1", "port": served.port, "timeout": 30.0}
    async with (
        decider(served),
        settler(served),
        AsyncBudgetClient(**here, api_key=keys["rhetor"]) as rhetor,
        AsyncBudgetClient(**here, api_key=keys["apollo"]) as apollo,
    ):
        _, info = await rhetor.check_budget(**CALL, component="rhetor", estimated_tokens=1000)
        with pytest.raises(Forbidden, match="not to 'rhetor'"):
            await apollo.check_budget(**CALL, component="rhetor", estimated_tokens=1000)
        with pytest.raises(Forbidden, match="not to 'rhetor'"):
            await apollo.record_usage(**CALL, component="rhetor", input_tokens=1, output_tokens=1)
        async with httpx2.AsyncClient(base_url=f"{url(served)}/api/holds/{info['request_id']}/") as bare:
            for verb, body in (("extend", {"ttl_s": 900}), ("release", {})):
                for name, status in (("apollo", 403), ("rhetor", 202)):
                    assert (await bare.post(verb, json=body, headers=bearer(keys[name]))).status_code == status
        recorded = await rhetor.record_usage(**CALL, component="rhetor", input_tokens=1, output_tokens=1)
        assert recorded["status"] == "recorded"


async def test_a_revoked_key_is_refused_without_a_restart(served: Settings) -> None:
    key = await in_force(served, "gone", "--role", "check")
    await budget(served, "keys", "revoke", "gone", "--file", served.api_keys_file)
    await known(served, key, yes=False)
    async with AsyncBudgetClient(host="127.0.0.1", port=served.port, api_key=key) as revoked:
        with pytest.raises(Unauthorized):
            await revoked.check_budget(**CALL, component="a", estimated_tokens=1)


async def test_without_keys_nothing_listens_where_others_are(kafka: str, settings: Settings) -> None:
    everywhere = settings.model_copy(update={"host": "0.0.0.0", "port": free_port()})  # noqa: S104  # refused
    result = await budget(everywhere, "serve", "gateway", code=2)
    assert "BUDGET_API_KEYS_FILE" in result.err
    assert "budget keys add" in result.err


async def test_a_feed_needs_a_key_that_may_read_and_a_browser_can_offer_it(served: Settings, admin: str) -> None:
    feed = f"ws://127.0.0.1:{served.port}/ws"
    checker = await in_force(served, "checker", "--role", "check")
    for key, status in ((None, 401), ("bdgt_nobody-s", 401), (checker, 403)):
        for offered in ({"additional_headers": bearer(key)}, {"subprotocols": ["budget.v1", f"bearer.{key}"]}):
            with pytest.raises(InvalidStatus) as refused:
                await connect(feed, **(offered if key else {}))
            assert refused.value.response.status_code == status
    async with connect(feed, additional_headers=bearer(admin)) as heard:
        assert '"snapshot"' in str(await heard.recv())
    async with connect(feed, subprotocols=["budget.v1", f"bearer.{admin}"]) as heard:
        # Never the key itself: what was chosen is told to whoever looks at the connection.
        assert heard.subprotocol == "budget.v1"
        assert '"snapshot"' in str(await heard.recv())


async def test_keys_that_come_and_go_are_audited_once_whichever_gateway_notices(
    served: Settings, pool: asyncpg.Pool
) -> None:
    second = served.model_copy(update={"port": free_port()})
    async with gateway(second):
        key = await in_force(served, "rhetor", "--role", "check", "--component", "rhetor")
        await known(second, key)
        await budget(served, "keys", "revoke", "rhetor", "--file", served.api_keys_file)
        async with asyncio.timeout(30):
            while await pool.fetchval("SELECT count(*) FROM change WHERE kind = 'key' AND after IS NULL") < 1:
                pass
    rows = await pool.fetch("SELECT before, after, actor FROM change WHERE kind = 'key' ORDER BY at, after IS NULL")
    told = [(row["before"] or row["after"])["name"] + (" gone" if row["after"] is None else "") for row in rows]
    assert told == ["ops", "rhetor", "rhetor gone"]
    assert rows[1]["after"]["roles"] == ["check"]
    assert rows[1]["after"]["components"] == ["rhetor"]
    assert {row["actor"] for row in rows} == {"keys file"}
    assert not any("sha256" in str(dict(row)) for row in rows)
