"""The commands for those who watch: alerts, holds, status, and who uses the service how."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings
from tests.integration.budget_command import budget, start

CALL = {"provider": "openai", "model": "gpt-4o", "input_tokens": 1000}  # 0.0025 dollars
UUID = "6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10"


@pytest.fixture
async def served(kafka: str, settings: Settings) -> AsyncIterator[Settings]:
    """A gateway with settler and decider; patient, because the first question waits for the decider's group."""
    await apply_topics(settings)
    here = settings.model_copy(update={"host": "127.0.0.1", "port": free_port(), "check_timeout_ms": 30_000})
    async with settler(settings), decider(settings), gateway(here):
        yield here


@pytest.fixture
async def client(served: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", timeout=60) as client:
        yield client


async def record(client: httpx2.AsyncClient, component: str, **fields: Any) -> None:
    event = {"component": component, **CALL, "output_tokens": 0, **fields}
    response = await client.post("/api/record?wait=true", json=event)
    assert response.status_code == 200, response.text


async def check(client: httpx2.AsyncClient, component: str, **fields: Any) -> str:
    response = await client.post("/api/check", json={"component": component, **CALL, "max_output_tokens": 1, **fields})
    assert response.status_code == 200, response.text
    return str(response.json()["request_id"])


async def test_alerts_are_listed_and_acknowledged_once(served: Settings, client: httpx2.AsyncClient) -> None:
    await budget(served, "set-limit", "daily", "0.002", "--threshold", "100")
    await record(client, "rhetor")
    (alert,) = (await budget(served, "alerts", "list", "--format", "json")).json
    assert (alert["type"], alert["acknowledged_by"]) == ("cost_limit_exceeded", None)
    assert "daily" in (await budget(served, "alerts", "list")).out
    assert "acknowledged by http:127.0.0.1" in (await budget(served, "alerts", "ack", alert["alert_id"])).out
    assert "no such alerts" in (await budget(served, "alerts", "list")).err
    (first,) = (await budget(served, "alerts", "list", "--all", "--format", "json")).json
    await budget(served, "alerts", "ack", alert["alert_id"])
    (again,) = (await budget(served, "alerts", "list", "--all", "--format", "json")).json
    assert first == again != alert
    assert f"no alert {UUID}" in (await budget(served, "alerts", "ack", UUID, code=1)).err
    (change,) = (await budget(served, "changes", "--kind", "alert", "--format", "json")).json
    assert (change["actor"], change["kind"]) == ("http:127.0.0.1", "alert")
    assert change["after"] == {**change["before"], "acknowledged": True}
    assert change["before"]["alert_id"] == alert["alert_id"]
    every = (await client.get("/api/changes?page_size=1")).json()
    rest = (await client.get(f"/api/changes?cursor={every['next_cursor']}")).json()
    assert [one["kind"] for one in (*every["items"], *rest["items"])][:2] == ["alert", "limit"]
    assert (await client.get("/api/changes?kind=nothing")).status_code == 422


async def test_an_alert_that_is_no_uuid_is_not_found(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/alerts/first/acknowledge")
    assert (answer.status_code, answer.json()["type"]) == (404, "not-found")
    assert (await client.post(f"/api/alerts/{UUID}/acknowledge", json={"by": "me"})).status_code == 422


@asynccontextmanager
async def watching(settings: Settings, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """What a command prints that goes on until Ctrl-C; it ends without a word then."""
    process = await start(settings, *arguments)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            yield process.stdout
    finally:
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
    assert (process.returncode, said) == (130, b"")


async def test_watching_alerts_shows_the_open_ones_and_then_each_new_one(
    served: Settings, client: httpx2.AsyncClient
) -> None:
    await budget(served, "set-limit", "daily", "0.002", "--threshold", "100", "--threshold", "200")
    await record(client, "rhetor")
    async with watching(served, "alerts", "watch", "--every", "0.2") as lines:
        assert b"100" in await lines.readline()
        await record(client, "rhetor")
        second = await lines.readline()
        assert b"200" in second
        # Nothing is shown twice: the next line is the next alert.
        await budget(served, "set-limit", "weekly", "0.001", "--threshold", "100")
        await record(client, "rhetor")
        assert b"weekly" in await lines.readline()


async def test_status_is_shown_again_and_again(served: Settings) -> None:
    async with watching(served, "status", "--watch", "--every", "0.2", "--format", "json") as lines:
        starts = 0
        while starts < 3:
            starts += (await lines.readline()) == b"{\n"


async def test_holds_are_listed_and_given_back(served: Settings, client: httpx2.AsyncClient) -> None:
    request_id = await check(client, "rhetor")
    await check(client, "codex")
    (hold,) = (await budget(served, "holds", "list", "--component", "rhetor", "--format", "json")).json
    assert (hold["request_id"], hold["state"]) == (request_id, "open")
    assert "0.00251 USD of rhetor" in (await budget(served, "holds", "release", request_id)).out
    async with asyncio.timeout(30):
        while (await budget(served, "holds", "list", "--component", "rhetor", "--format", "json")).json:
            pass
    assert "codex" in (await budget(served, "holds", "list")).out
    assert "voided" in (await budget(served, "holds", "release", request_id, code=1)).err
    assert "no unconfirmed holds" in (await budget(served, "holds", "list", "--state", "unconfirmed")).err


async def test_integrations_say_who_does_what_wrong(served: Settings, client: httpx2.AsyncClient, pool: Any) -> None:
    assert (await budget(served, "debug", "integrations", "--format", "json")).json == []
    await check(client, "asker")
    await record(client, "recorder")
    await record(client, "recorder", model="no-such-model")
    await check(client, "good")
    await record(client, "good")
    await check(client, "careless")
    # As the decider leaves a hold whose time is over; waiting for it would take as long as holds live.
    await pool.execute("UPDATE hold SET state = 'expired', closed_at = now() WHERE component = 'careless'")
    found = {one["component"]: one for one in (await client.get("/api/integrations")).json()["items"]}
    assert found["asker"]["findings"] == ["asks, but has recorded no usage"]
    assert found["good"]["findings"] == []
    assert found["good"]["holds"] == {"settled": 1}
    assert found["recorder"]["unpriced"] == [{"provider": "openai", "model": "no-such-model", "requests": 1}]
    assert [text.split(":")[0] for text in found["recorder"]["findings"]] == [
        "records without asking",
        "uses models without a price",
    ]
    assert found["careless"]["findings"][0].startswith("never settles: of its holds 1 ran out")
    told = (await budget(served, "debug", "integrations")).out
    assert "careless: never settles" in told
    assert datetime.fromisoformat(found["good"]["last_recorded_at"]) <= datetime.now(UTC)


async def test_what_is_older_than_the_days_asked_for_is_left_out(served: Settings, client: httpx2.AsyncClient) -> None:
    await record(client, "old", occurred_at=(datetime.now(UTC) - timedelta(days=3)).isoformat(), event_id=str(uuid4()))
    assert (await budget(served, "debug", "integrations", "--days", "2", "--format", "json")).json == []
    (one,) = json.loads((await budget(served, "debug", "integrations", "--days", "4", "--format", "json")).out)
    assert one["component"] == "old"
