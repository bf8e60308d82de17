"""`budget pause`, `resume`, `pauses` and `anomalies`, on a real gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest

from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.settings import Settings
from budget_bus.store import anomalies
from budget_bus.store.anomalies import Finding
from tests.integration.budget_command import budget

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
UUID = "6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10"


@pytest.fixture
async def served(kafka: str, settings: Settings) -> AsyncIterator[Settings]:
    await budget(settings, "topics", "apply")
    here = settings.model_copy(update={"port": free_port()})
    async with gateway(here):
        yield here


async def test_a_scope_is_paused_listed_and_resumed(served: Settings) -> None:
    assert "nothing is paused" in (await budget(served, "pauses")).err
    made = await budget(served, "pause", "--component", "rhetor", "--reason", "a loop", "--for", "2h")
    assert made.out.startswith("paused ")
    assert made.out.rstrip().endswith("because: a loop")
    again = await budget(served, "pause", "--scope", '{"component": ["rhetor"]}', "--reason", "still a loop")
    assert "changed" in again.out
    assert '{"component": "rhetor"}, until it is resumed, because: still a loop' in again.out
    (one,) = (await budget(served, "pauses", "--format", "json")).json
    assert (one["reason"], one["active"], one["until"]) == ("still a loop", True, None)
    assert "still a loop" in (await budget(served, "pauses")).out
    ended = await budget(served, "resume", one["pause_id"], "--reason", "mended")
    assert ended.out.startswith("ended at ")
    assert (await budget(served, "pauses", "--format", "json")).json == []
    (one,) = (await budget(served, "pauses", "--all", "--format", "json")).json
    assert one["end_reason"] == "mended"
    assert UUID in (await budget(served, "resume", UUID, code=1)).err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["pause", "--component", "a"], "--reason", id="no reason"),
        pytest.param(["pause", "--reason", "x"], "--everything", id="no scope"),
        pytest.param(["pause", "--reason", "x", "--component", "a", "--everything"], "--everything", id="two scopes"),
        pytest.param(["pause", "--reason", "x", "--component", "a", "--for", "soon"], "30m, 2h", id="a time in words"),
        pytest.param(["pause", "--reason", "x", "--component", "a", "--until", "2026-11-01"], "zone", id="until a day"),
        pytest.param(
            ["pause", "--reason", "x", "--component", "a", "--for", "1h", "--until", "2027-01-01T00:00:00Z"],
            "until when, or for how long",
            id="two ends",
        ),
        pytest.param(["pause", "--reason", "x", "--scope", '{"team": "a"}'], "scope.team", id="no such scope"),
        pytest.param(["resume", "that one"], "PAUSE_ID", id="no id"),
        pytest.param(["anomalies", "list", "--kind", "odd"], "odd", id="no such kind"),
    ],
)
async def test_bad_usage_ends_with_2_and_names_it(settings: Settings, arguments: list[str], says: str) -> None:
    assert says in (await budget(settings, *arguments, code=2)).err


async def test_what_looks_wrong_is_listed(served: Settings, pool: asyncpg.Pool) -> None:
    assert "nothing looks wrong" in (await budget(served, "anomalies", "list")).err
    found = Finding("loop", {"context_id": "run-7"}, NOW, NOW, 65, 59, "requests", None, "rhetor goes in circles")
    async with pool.acquire() as connection:
        await anomalies.begin(connection, one := uuid4(), found)
    listed = (await budget(served, "anomalies", "list", "--format", "csv")).out
    assert '2026-03-10T12:00:00Z,loop,"{""context_id"":""run-7""}",65,59,rhetor goes in circles,,' in listed
    async with pool.acquire() as connection:
        await anomalies.over(connection, [one], NOW)
    assert (await budget(served, "anomalies", "list", "--format", "json")).json == []
    (told,) = (await budget(served, "anomalies", "list", "--all", "--kind", "loop", "--format", "json")).json
    assert told["anomaly_id"] == str(one)
