"""What reports tell beyond the sums: savings, unit costs, late and restated amounts, and the export in FOCUS."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx2
import pytest

from budget_bus.bookkeeping.restating import Restating
from budget_bus.policy.budget import Policy
from budget_bus.providers.prices import PriceBook
from budget_bus.settings import Settings
from budget_bus.store import export
from budget_bus.store.admin import check_books, open_connection
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.prices import set_price
from budget_bus.store.restatements import Range
from tests.integration.books import USD, Books, usage
from tests.integration.clock import Clock

NOW = datetime(2026, 3, 10, 12, 7, 30, tzinfo=UTC)
QUIET: Any = lambda *_: None  # noqa: E731 - nobody looks


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def books(pool: asyncpg.Pool, clock: Clock) -> Books:
    return Books(pool, clock=clock)


async def told(client: httpx2.AsyncClient, **query: Any) -> dict[str, Any]:
    response = await client.get("/api/reports/summary", params=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ago(**span: float) -> str:
    return (NOW - timedelta(**span)).isoformat()


async def price(books: Books, cached: int, since: datetime) -> None:
    """2 picos a token of input, *cached* of cached input."""
    rates = {"input": [2000, []], "cache_read": [cached, []], "output": [0, []]}
    await set_price(books.pool, "openai", "gpt-4o", rates, effective_from=since, actor="test")


async def test_cache_savings_are_at_the_price_of_the_time_whatever_the_steps_are(
    books: Books, client: httpx2.AsyncClient
) -> None:
    change = datetime(2026, 3, 10, 9, tzinfo=UTC)
    await price(books, 1000, datetime(2026, 1, 1, tzinfo=UTC))
    await price(books, 500, change)
    cached = {"input_tokens": 1000, "cache_read_input_tokens": 400}
    await books.settle(
        usage(occurred_at=(change - timedelta(minutes=1)).isoformat(), **cached),
        usage(occurred_at=change.isoformat(), component="codex", **cached),
        usage(occurred_at=ago(seconds=1), component="codex", **cached),
        usage(occurred_at=ago(seconds=1), model="nobody-s", **cached),
    )
    for period in ("hourly", "daily", "monthly"):
        report = await told(client, days=2, period=period, group_by="component")
        # 400 * (2000 - 1000) picos before the change, 400 * (2000 - 500) for each call since.
        assert report["totals"]["cache_savings"] == "0.0000016"
        assert {g["key"]["component"]: g["cache_savings"] for g in report["groups"]} == {
            "codex": "0.0000012",
            "rhetor": "0.0000004",
        }
        assert sum(Decimal(step["cache_savings"]) for step in report["series"]) == Decimal("0.0000016")
        assert report["totals"]["cache_read_input_tokens"] == 1600


async def test_unit_costs_leave_out_what_is_unpriced(books: Books, client: httpx2.AsyncClient) -> None:
    for context_id in ("a", "a", "b", None):
        extra = {"context_id": context_id} if context_id else {}
        await books.settle(usage(occurred_at=ago(hours=1), **extra))
    await books.settle(usage(occurred_at=ago(hours=1), model="nobody-s", context_id="c"))
    report = await told(client, days=1, group_by="model")
    # 0.0035 for 1,100 tokens.
    assert report["totals"]["cost_per_request"] == "0.0035"
    assert report["totals"]["cost_per_1k_tokens"] == "0.003181818"
    assert (report["totals"]["contexts"], report["totals"]["cost_per_context"]) == (3, "0.0035")
    by_model = {group["key"]["model"]: group for group in report["groups"]}
    assert (by_model["gpt-4o"]["contexts"], by_model["gpt-4o"]["cost_per_context"]) == (2, "0.00525")
    assert by_model["nobody-s"]["cost_per_request"] is None


async def test_late_and_restated_amounts_are_told_and_add_up(
    books: Books, client: httpx2.AsyncClient, settings: Settings
) -> None:
    await books.limit(100 * USD)
    await books.settle(usage(occurred_at=ago(days=3)), usage(occurred_at=ago(minutes=1), component="codex"))
    rates = {"input": [1_000_000, []], "output": [1_000_000, []]}
    await set_price(
        books.pool, "openai", "gpt-4o", rates, effective_from=datetime(2020, 1, 1, tzinfo=UTC), actor="test"
    )
    async with open_connection(settings) as connection:
        for _ in range(2):
            await Restating(
                connection=connection, catalogue=Catalogue(Policy.WARN), prices=PriceBook(), wanted=Range(),
                actor="test", reason="a test", now=lambda: NOW, progress=QUIET,
            ).run()  # fmt: skip
        assert (await check_books(connection, progress=QUIET)).differences == ()
    report = await told(client, days=7, group_by="component,tier")
    totals = report["totals"]
    # From 0.0035 to 0.0011 each; the late one is charged as the other.
    assert (totals["cost"], totals["restated_cost"]) == ("0.0022", "-0.0048")
    assert (totals["late_requests"], totals["late_cost"]) == (1, "0.0011")
    assert [group["late_requests"] for group in report["groups"]] == [0, 1]
    assert {group["key"]["tier"] for group in report["groups"]} == {"remote_heavyweight"}
    for name in ("restated_cost", "late_cost"):
        assert sum(Decimal(step[name]) for step in report["series"]) == Decimal(totals[name])
    assert (await told(client, days=7, tier="elsewhere"))["totals"]["requests"] == 0


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE rollup SET cache_read_input_tokens = 0",
        "UPDATE rollup SET late_requests = late_requests + 1",
        "UPDATE rollup SET late_cost_nanos = 5",
    ],
)
async def test_checking_the_books_sees_rollups_that_forgot(books: Books, settings: Settings, spoil: str) -> None:
    await books.settle(usage(occurred_at=ago(hours=1), cache_read_input_tokens=10))
    async with open_connection(settings) as connection:
        assert (await check_books(connection, progress=QUIET)).differences == ()
        await connection.execute(spoil)
        # Of the quarter beside the ledger, and of its hour, which was folded before, beside the quarter.
        found = (await check_books(connection, progress=QUIET)).differences
        assert [one.where.partition(" 20")[0] for one in found] == ["rollup", "hour of rollups"]


async def test_a_report_comes_as_a_page_and_as_a_workbook(books: Books, client: httpx2.AsyncClient) -> None:
    await books.settle(usage(occurred_at=ago(hours=1), component="<b>x"))
    page = await client.get("/api/reports/summary", params={"format": "html", "group_by": "component"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "&lt;b&gt;x" in page.text
    assert "<b>x" not in page.text
    book = await client.get("/api/reports/summary", params={"format": "xlsx"})
    assert book.content[:2] == b"PK"


async def test_the_sum_of_billed_cost_is_the_ledger_s_to_the_last_digit(
    books: Books, client: httpx2.AsyncClient, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "AT_ONCE", 7)
    for n in range(30):
        cached = {"cache_read_input_tokens": n * 31, "reasoning_output_tokens": n}
        await books.settle(usage(occurred_at=ago(hours=n + 1), input_tokens=1000 + n, output_tokens=n * 7, **cached))
    await books.settle(usage(occurred_at=ago(hours=1), model="nobody-s"))
    response = await client.get("/api/reports/export", params={"format": "focus"})
    rows = [*csv.DictReader(io.StringIO(response.text))]
    assert len({row["x_EventId"] for row in rows}) == 31
    assert sum(row["x_ChargeNumber"] == "1" for row in rows) == 31
    nanos = await pool.fetchval("SELECT sum(cost_nanos) FROM ledger")
    assert sum(Decimal(row["BilledCost"]) for row in rows) * 10**9 == nanos
