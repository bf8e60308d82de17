"""GET /api/reports/summary: every number of it is a sum of the ledger."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx2
import pytest

from budget_bus.producers.topics import apply_topics
from budget_bus.settings import Settings
from budget_bus.store import reports
from tests.integration.books import Books, check, usage
from tests.integration.clock import Clock
from tests.integration.http_client import client_of

NOW = datetime(2026, 3, 10, 12, 7, 30, tzinfo=UTC)
PATH = "/api/reports/summary"
NUMBERS = ("requests", "input_tokens", "output_tokens", "total_tokens", "unpriced_requests")


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def books(pool: asyncpg.Pool, clock: Clock) -> Books:
    return Books(pool, clock=clock)


async def told(client: httpx2.AsyncClient, **query: Any) -> dict[str, Any]:
    response = await client.get(PATH, params=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def used(books: Books, ago: timedelta, **fields: Any) -> None:
    """0.0035 dollars."""
    await books.settle(usage(occurred_at=(NOW - ago).isoformat(), **fields))


def adds_up(parts: list[dict[str, Any]], totals: dict[str, Any]) -> None:
    for name in NUMBERS:
        assert sum(part[name] for part in parts) == totals[name], name
    assert sum(Decimal(part["cost"]) for part in parts) == Decimal(totals["cost"])


async def test_the_totals_are_the_sum_of_the_steps_and_of_the_groups(
    books: Books, client: httpx2.AsyncClient, pool: asyncpg.Pool
) -> None:
    for minutes in (0, 1, 7, 8, 14, 22, 23, 60, 1440, 1447, 1448, 2880, 4000):
        await used(books, timedelta(minutes=minutes, seconds=1), component="rhetor" if minutes % 2 else "codex")
        await used(books, timedelta(minutes=minutes, seconds=2), model="gpt-4o-mini", task_type="chat")
    await used(books, timedelta(hours=5), model="nobody-s-model")
    start, end = NOW - timedelta(days=2), NOW
    for period in ("hourly", "daily", "weekly", "monthly"):
        report = await told(client, days=2, period=period, group_by="component,task_type")
        adds_up(report["series"], report["totals"])
        adds_up(report["groups"], report["totals"])
        for step in report["series"]:
            adds_up(step["groups"], step)
        assert [report["series"][0]["start"], report["series"][-1]["end"]] == [
            report["window_start"],
            report["window_end"],
        ]
        assert all(a["end"] == b["start"] for a, b in zip(report["series"], report["series"][1:], strict=False))
        row = await pool.fetchrow(
            "SELECT count(*) AS n, sum(coalesce(cost_nanos, 0)) AS nanos FROM ledger "
            "WHERE occurred_at >= $1 AND occurred_at < $2", start, end,
        )  # fmt: skip
        assert report["totals"]["requests"] == row["n"]
        assert Decimal(report["totals"]["cost"]) * 10**9 == row["nanos"]
        assert report["unpriced"] == {"requests": 1, "total_tokens": 1100}


async def test_days_begin_at_midnight_of_the_zone(books: Books, client: httpx2.AsyncClient) -> None:
    await used(books, timedelta(hours=20))
    berlin = await told(client, days=2, timezone="Europe/Berlin")
    starts = [step["start"] for step in berlin["series"]]
    assert starts == ["2026-03-08T12:07:30Z", "2026-03-08T23:00:00Z", "2026-03-09T23:00:00Z"]
    assert [step["requests"] for step in berlin["series"]] == [0, 1, 0]


async def test_the_top_are_those_who_spend_most(books: Books, client: httpx2.AsyncClient) -> None:
    for n in range(3):
        await used(books, timedelta(hours=n + 1), component="codex")
    await used(books, timedelta(hours=1))
    report = await told(client, days=1)
    assert [(one["dimension"], one["value"], one["share_percent"]) for one in report["top"]] == [
        ("component", "codex", "75.0"),
        ("component", "rhetor", "25.0"),
        ("provider", "openai", "100.0"),
        ("model", "gpt-4o", "100.0"),
    ]
    alone = await told(client, days=1, component="rhetor", group_by="component")
    assert [(one["value"], one["share_percent"]) for one in alone["top"]] == [("rhetor", "100.0")]


async def test_budgets_say_what_they_come_to_and_when_they_run_out(books: Books, client: httpx2.AsyncClient) -> None:
    for body in (
        {"period": "daily", "limit": "0.01", "name": "tight"},
        {"period": "weekly", "limit": 1000, "name": "wide"},
        {"period": "total", "limit": 5, "name": "endless"},
    ):
        assert (await client.post("/api/limits", json=body)).status_code == 201
    for minute in (1, 2):
        await used(books, timedelta(minutes=minute))
    found = {budget["name"]: budget for budget in (await told(client, days=1))["budgets"]}
    # 0.007 dollars in 12 h 7.5 min of 24 hours.
    expected = Decimal("0.007") * 86_400_000 / ((12 * 60 + 7) * 60_000 + 30_000)
    assert abs(Decimal(found["tight"]["forecast"]["expected"]) - expected) < Decimal("1e-8")
    assert found["tight"]["forecast"]["method"] == "run_rate"
    runs_out = datetime.fromisoformat(found["tight"]["runs_out_at"])
    assert NOW < runs_out < datetime(2026, 3, 11, tzinfo=UTC)
    assert found["wide"]["runs_out_at"] is None
    assert found["endless"]["forecast"] is None


async def test_unconfirmed_holds_are_told_with_what_they_cost(
    books: Books, client: httpx2.AsyncClient, pool: asyncpg.Pool
) -> None:
    await client.post("/api/limits", json={"period": "daily", "limit": 10, "policy": "HARD_LIMIT"})
    await books.ask(check())
    assert (await told(client))["unconfirmed_holds"] == 0
    await pool.execute("UPDATE hold SET state = 'unconfirmed', closed_at = now()")
    report = await told(client)
    assert (report["unconfirmed"], report["unconfirmed_holds"]) == ("0.01", 1)
    assert (await told(client, component="codex"))["unconfirmed_holds"] == 0


async def test_csv_has_the_groups_or_the_steps_and_no_formula(books: Books, client: httpx2.AsyncClient) -> None:
    await used(books, timedelta(hours=1), component="=cmd|'/c calc'!A1")
    await used(books, timedelta(hours=30))
    groups = await client.get(PATH, params={"days": 2, "group_by": "component", "format": "csv"})
    assert groups.headers["content-type"] == "text/csv; charset=utf-8"
    rows = [*csv.DictReader(io.StringIO(groups.text))]
    assert [row["component"] for row in rows] == ["'=cmd|'/c calc'!A1", "rhetor"]
    assert [row["cost"] for row in rows] == ["0.0035", "0.0035"]
    steps = await client.get(PATH, params={"days": 2, "format": "csv"})
    assert [row["requests"] for row in csv.DictReader(io.StringIO(steps.text))] == ["0", "1", "1"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"period": "yearly"}, "period"),
        ({"days": 0}, "days"),
        ({"period": "hourly", "days": 1100}, "period"),
        ({"group_by": "colour"}, "group_by"),
        ({"format": "pdf"}, "format"),
        ({"start": "2026-03-11T00:00:00Z"}, "start"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
    ],
)
async def test_what_cannot_be_reported_is_named(client: httpx2.AsyncClient, query: dict[str, Any], field: str) -> None:
    response = await client.get(PATH, params=query)
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)


async def test_reports_are_in_the_currency_of_prices_whatever_that_of_limits_is(
    kafka: str, settings: Settings, books: Books
) -> None:
    await used(books, timedelta(hours=1))
    await apply_topics(settings)
    async with client_of(settings.model_copy(update={"default_currency": "EUR"}), now=lambda: NOW) as client:
        for report in (await told(client), (await client.get("/api/usage/daily")).json()):
            assert (report["currency"], report["totals"]["cost"]) == ("USD", "0.0035")
            assert report["totals"]["other_costs"] == {}


async def exported(client: httpx2.AsyncClient, **query: Any) -> list[dict[str, str]]:
    response = await client.get("/api/reports/export", params=query)
    assert response.status_code == 200, response.text
    return [*csv.DictReader(io.StringIO(response.text))]


async def test_the_export_is_the_ledger_row_by_row(books: Books, client: httpx2.AsyncClient) -> None:
    for n in range(5):
        await used(books, timedelta(hours=n, seconds=1), component=f"c{n}", tags={"team": "a,b"}, user="=1+1")
    await used(books, timedelta(hours=9), model="nobody-s-model")
    await used(books, timedelta(days=40))
    rows = await exported(client)
    assert [row["component"] for row in rows] == ["rhetor", "c4", "c3", "c2", "c1", "c0"]
    assert [row["cost"] for row in rows] == ["", *["0.0035"] * 5]
    assert (rows[1]["tags"], rows[1]["user"], rows[1]["price_status"]) == ('{"team":"a,b"}', "'=1+1", "priced")
    assert rows[-1]["occurred_at"] == "2026-03-10T12:07:29Z"
    assert [row["component"] for row in await exported(client, component=["c1", "c2"])] == ["c2", "c1"]
    span = {"start": "2026-01-01T00:00:00Z", "end": "2026-03-10T03:07:31Z"}
    assert [row["model"] for row in await exported(client, **span)] == ["gpt-4o", "nobody-s-model"]
    wrong = await client.get("/api/reports/export", params={"start": "2026-04-01T00:00:00Z"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "start")


async def test_a_report_of_too_many_sums_is_refused_rather_than_cut(
    books: Books, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        await used(books, timedelta(hours=1), context_id=f"run-{n}")
    assert len((await told(client, group_by="context_id"))["groups"]) == 3
    monkeypatch.setattr(reports, "MAX_ROWS", 2)
    refused = await client.get(PATH, params={"group_by": "context_id"})
    assert refused.status_code == 422
    assert "more than 2 sums" in refused.json()["detail"]
