"""Reports that are due again and again: at least once, from one bookkeeper, and told of when they fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from pydantic import SecretStr

from budget_bus.notifiers import signature
from budget_bus.notifiers.posting import http_client
from budget_bus.producers.topics import apply_topics
from budget_bus.reporting.due import Reporter
from budget_bus.settings import Settings
from tests.integration.books import Books, usage
from tests.integration.http_client import client_of
from tests.receivers import http_receiver

NOW = datetime(2026, 3, 10, 12, 7, 30, tzinfo=UTC)
PATH = "/api/reports/schedules"
DAILY = {"name": "spend", "every": "daily", "at": "13:00", "group_by": ["component"], "format": "json"}


@dataclass(slots=True)
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ours(settings: Settings, tmp_path: Path) -> Settings:
    secret = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")  # the example of Standard Webhooks
    return settings.model_copy(update={"reports_dir": tmp_path / "reports", "reports_webhook_secret": secret})


@pytest.fixture
async def client(kafka: str, ours: Settings, clock: Clock) -> AsyncIterator[httpx2.AsyncClient]:
    await apply_topics(ours)
    async with client_of(ours, now=clock) as client:
        yield client


@pytest.fixture
async def reporter(ours: Settings, pool: asyncpg.Pool, clock: Clock) -> AsyncIterator[Reporter]:
    async with http_client() as http:
        yield Reporter(ours, pool, http, now=clock)


async def add(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await client.post(PATH, json={**DAILY, **fields})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


async def listed(client: httpx2.AsyncClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await client.get(PATH)).json()["items"]
    return items


async def test_a_file_has_the_report_of_the_day_before_once_it_is_due(
    client: httpx2.AsyncClient, reporter: Reporter, clock: Clock, pool: asyncpg.Pool, ours: Settings
) -> None:
    books = Books(pool, clock=clock)
    await books.settle(*(usage(occurred_at=(NOW - timedelta(hours=hours)).isoformat()) for hours in (1, 13, 20, 40)))
    made = await add(client, file="spend-{date}.json")
    assert made["due_at"] == "2026-03-10T13:00:00Z"
    assert not await reporter.deliver_one()
    clock.now = datetime(2026, 3, 10, 13, 0, tzinfo=UTC)
    assert await reporter.deliver_one()
    assert not await reporter.deliver_one()
    assert ours.reports_dir is not None
    assert [path.name for path in ours.reports_dir.iterdir()] == ["spend-2026-03-09.json"]
    report = json.loads((ours.reports_dir / "spend-2026-03-09.json").read_text())
    assert (report["window_start"], report["window_end"]) == ("2026-03-09T00:00:00Z", "2026-03-10T00:00:00Z")
    assert (report["totals"]["requests"], len(report["series"])) == (2, 24)
    (one,) = await listed(client)
    assert (one["due_at"], one["last_delivered_due_at"]) == ("2026-03-11T13:00:00Z", "2026-03-10T13:00:00Z")


async def test_what_was_due_while_nobody_worked_is_delivered_in_order(
    client: httpx2.AsyncClient, reporter: Reporter, clock: Clock, ours: Settings
) -> None:
    await add(client, file="spend-{date}.csv", format="csv")
    clock.now = NOW + timedelta(days=2, hours=1)
    assert [await reporter.deliver_one() for _ in range(4)] == [True, True, True, False]
    assert ours.reports_dir is not None
    assert sorted(path.name for path in ours.reports_dir.iterdir()) == [
        "spend-2026-03-09.csv", "spend-2026-03-10.csv", "spend-2026-03-11.csv",
    ]  # fmt: skip


async def test_a_webhook_is_signed_tried_again_and_known_by_its_id(
    client: httpx2.AsyncClient, reporter: Reporter, clock: Clock, ours: Settings
) -> None:
    async with http_receiver((503, "")) as receiver:
        await add(client, webhook=receiver.url)
        clock.now = NOW + timedelta(hours=1)
        assert await reporter.deliver_one()
        (failed,) = await listed(client)
        assert (failed["attempts"], failed["last_error"]) == (1, "the receiver answered 503")
        assert failed["webhook_host"] == "127.0.0.1"
        assert "geheim" not in json.dumps(failed)
        assert not await reporter.deliver_one()
        clock.now += timedelta(minutes=2)
        assert await reporter.deliver_one()
        (fine,) = await listed(client)
        assert (fine["attempts"], fine["last_error"]) == (0, None)
        first, second = await receiver.next(), await receiver.next()
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert ours.reports_webhook_secret is not None
    at_s = int(second.headers["webhook-timestamp"])
    secret = ours.reports_webhook_secret.get_secret_value()
    signed = signature.headers(secret, second.headers["webhook-id"], at_s, second.body)
    assert second.headers["webhook-signature"] == signed["webhook-signature"]
    said = json.loads(second.body)
    assert (said["type"], said["data"]["name"], said["data"]["format"]) == ("budget.report", "spend", "json")
    assert said["data"]["report"]["totals"]["requests"] == 0


async def test_of_two_bookkeepers_one_hands_a_report_over(
    client: httpx2.AsyncClient, reporter: Reporter, clock: Clock
) -> None:
    async with http_receiver() as receiver:
        receiver.open.clear()
        await add(client, webhook=receiver.url)
        clock.now = NOW + timedelta(hours=1)
        one = asyncio.create_task(reporter.deliver_one())
        await receiver.next()
        assert not await reporter.deliver_one()
        receiver.open.set()
        assert await one
        assert not await reporter.deliver_one()
        assert receiver.posted.empty()


async def test_one_that_dies_before_it_notes_the_hand_over_is_made_up_for(
    client: httpx2.AsyncClient, reporter: Reporter, clock: Clock
) -> None:
    async with http_receiver() as receiver:
        receiver.open.clear()
        await add(client, webhook=receiver.url)
        clock.now = NOW + timedelta(hours=1)
        one = asyncio.create_task(reporter.deliver_one())
        first = await receiver.next()
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        receiver.open.set()
        assert await reporter.deliver_one()
        assert (await receiver.next()).headers["webhook-id"] == first.headers["webhook-id"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "file"),
        ({"file": "a", "webhook": "https://example.org"}, "file"),
        *(({"file": name}, "file") for name in ("../x", "/etc/x", "a/b", "..", ".hidden", "", "a\x00", "{date}/x")),
        ({"webhook": "ftp://example.org"}, "webhook"),
        ({"file": "a", "every": "hourly"}, "every"),
        ({"file": "a", "at": "25:00"}, "at"),
        ({"file": "a", "timezone": "Mars/Olympus"}, "timezone"),
        ({"file": "a", "group_by": ["colour"]}, "group_by"),
        ({"file": "a", "colour": "red"}, "colour"),
    ],
)
async def test_what_cannot_be_scheduled_is_named(
    client: httpx2.AsyncClient, fields: dict[str, Any], field: str
) -> None:
    response = await client.post(PATH, json={**DAILY, **fields})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field), response.text
    assert await listed(client) == []


async def test_without_a_directory_or_a_secret_nothing_can_go_there(
    kafka: str, settings: Settings, client: httpx2.AsyncClient, pool: asyncpg.Pool, clock: Clock
) -> None:
    async with client_of(settings) as bare:
        for target in ({"file": "a"}, {"webhook": "https://example.org"}):
            refused = await bare.post(PATH, json={**DAILY, **target})
            assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, next(iter(target)))
    await add(client, file="a")
    clock.now = NOW + timedelta(hours=1)
    async with http_client() as http:
        assert await Reporter(settings, pool, http, now=clock).deliver_one()
    assert "BUDGET_REPORTS_DIR" in (await listed(client))[0]["last_error"]


async def test_a_name_that_got_into_the_table_some_other_way_leads_nowhere_else(
    client: httpx2.AsyncClient, reporter: Reporter, clock: Clock, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    await add(client, file="a")
    await pool.execute("UPDATE report_schedule SET file_name = '../outside'")
    clock.now = NOW + timedelta(hours=1)
    assert await reporter.deliver_one()
    assert not (tmp_path / "outside").exists()
    assert "no name of a file" in (await listed(client))[0]["last_error"]


async def test_a_removed_schedule_is_gone(client: httpx2.AsyncClient) -> None:
    made = await add(client, file="a")
    assert (await client.delete(f"{PATH}/{made['schedule_id']}")).status_code == 204
    assert await listed(client) == []
    assert (await client.delete(f"{PATH}/{made['schedule_id']}")).status_code == 404
    assert (await client.delete(f"{PATH}/nonsense")).status_code == 404
