"""`budget demo` against a running service: it shows something, and keeps away from what is others'."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import asyncpg
import httpx2
import pytest

from budget_bus.cli.demo.limits import NAMES
from budget_bus.cli.demo.traffic import COMPONENTS
from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, outbox_relay, settler
from budget_bus.settings import Settings
from tests.integration.books import Books
from tests.integration.budget_command import budget, start


@pytest.fixture
async def served(kafka: str, settings: Settings) -> AsyncIterator[Settings]:
    """A service whose decider is at work."""
    here = settings.model_copy(update={"port": free_port(), "check_timeout_ms": 20_000})
    await apply_topics(here)
    async with settler(here), decider(here) as asked, outbox_relay(here), gateway(here):
        await asked.ready.wait()
        yield here


async def _set_limit(settings: Settings, **body: object) -> str:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}", trust_env=False) as http:
        response = await http.post("/api/limits", json={"period": "daily", "limit": 10, **body})
    assert response.status_code == 201, response.text
    return str(response.json()["budget_id"])


async def test_the_demo_shows_a_denial_an_alert_and_a_model_without_a_price(
    served: Settings, pool: asyncpg.Pool
) -> None:
    said = (await budget(served, "demo", "--seconds", 3, "--rate", 20, "--history", 2)).out
    assert "denied   demo-codex" in said
    assert "unpriced apollo-predictor" in said
    assert f"watch it: http://127.0.0.1:{served.port}" in said
    names = [row["name"] for row in await pool.fetch("SELECT name FROM budget ORDER BY created_at")]
    assert names == list(NAMES)
    components = {row["component"] for row in await pool.fetch("SELECT DISTINCT component FROM ledger")}
    assert components == {*COMPONENTS}
    assert await pool.fetchval("SELECT count(*) FROM alert") > 0
    assert await pool.fetchval("SELECT count(*) FROM hold WHERE state = 'open'") == 0
    await Books(pool).assert_exact()
    # What is there now is the demo's own, so it does not ask.
    again = (await budget(served, "demo", "--seconds", 1, "--rate", 2)).out
    assert "2 calls:" in again


async def test_the_past_is_filled_once_and_the_limits_go_again(served: Settings, pool: asyncpg.Pool) -> None:
    for _ in range(2):
        await budget(served, "demo", "--seconds", 0, "--history", 2)
    first = await pool.fetchval("SELECT count(*) FROM ledger")
    await budget(served, "demo", "--seconds", 0, "--history", 2)
    assert await pool.fetchval("SELECT count(*) FROM ledger") == first > 50
    theirs = await _set_limit(served, scope={"component": "rhetor"}, name="demo day")
    await budget(served, "demo", "--seconds", 0.5, "--rate", 2, "--yes")
    assert f"removed {len(NAMES)} limits" in (await budget(served, "demo", "--remove")).out
    left = await pool.fetch("SELECT budget_id FROM budget WHERE deleted_at IS NULL")
    assert [str(row["budget_id"]) for row in left] == [theirs]


async def test_it_asks_before_it_writes_beside_others(served: Settings, pool: asyncpg.Pool) -> None:
    await _set_limit(served, scope={}, name="everything")
    refused = await budget(served, "demo", "--seconds", 1, code=1)
    assert "not empty: 0 calls of 0 components, 1 limits" in refused.err
    assert "would count in 'everything' as well" in refused.err
    assert "--yes" in refused.err
    assert await pool.fetchval("SELECT count(*) FROM ledger") == 0


async def test_ctrl_c_ends_the_calls_that_are_under_way_and_no_hold_stays(served: Settings, pool: asyncpg.Pool) -> None:
    process = await start(served, "demo", "--seconds", 600, "--rate", 20)
    try:
        async with asyncio.timeout(60):
            while not await pool.fetchval("SELECT count(*) FROM hold"):
                pass
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err.decode()) == (0, "")
    assert "come to their end" in out.decode()
    assert await pool.fetchval("SELECT count(*) FROM hold WHERE state = 'open'") == 0


async def test_without_a_service_it_says_how_to_start_one(settings: Settings) -> None:
    nobody = settings.model_copy(update={"port": free_port()})
    assert "budget up" in (await budget(nobody, "demo", code=1)).err
