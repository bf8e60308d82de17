"""The dashboard in Chromium, with 90 days of real traffic: how soon it shows, and how soon it shows a call."""

from __future__ import annotations

import asyncio
import csv
import json
import shutil
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx2
from aiokafka import AIOKafkaProducer
from playwright.async_api import Browser, async_playwright

from bench.settle import set_budgets
from bench.stack import ROOT, Stack
from budget_bus.errors import BudgetUnavailable
from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.local.ports import free_port

DAYS = 90
TRACES = ROOT.parent / "shared" / "data"
_CALLS = {
    "code": (("codex", "openai", "gpt-4o"), ("ergon", "anthropic", "claude-sonnet-4-5")),
    "conv": (("rhetor", "anthropic", "claude-haiku-4-5"), ("apollo", "google", "gemini-2.5-flash")),
}
_ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
              "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
_OPENED = 5
_UPDATES = 10
_PATIENCE_S = 120


async def rounds(stack: Stack) -> AsyncIterator[dict[str, float]]:
    """
    The floor is a page with one word from the same gateway, and the time until a call is in the ledger; ours are the
    dashboard's first paint, and the time until it shows the call. Milliseconds, medians.

    Raises:
        BudgetUnavailable: there is no Chromium here, or the traces are not.
    """
    chromium, why = shutil.which("chromium"), lacking()
    if why:
        raise BudgetUnavailable(why)
    database_url = await stack.new_database(migrated=True)
    await set_budgets(stack, database_url)
    async with AsyncExitStack() as opened:
        await _fill(stack, database_url, opened)
        address = await opened.enter_async_context(_gateway(stack, database_url))
        playwright = await opened.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=chromium, args=[*_ARGUMENTS])
        client = await opened.enter_async_context(httpx2.AsyncClient(base_url=address, timeout=60))
        floor = await _paint(browser, f"{address}/health/live")
        settled = [await _settled(client) for _ in range(_UPDATES)]
        yield {"first_paint_ms": floor, "update_ms": statistics.median(settled)}
        yield {"first_paint_ms": await _paint(browser, address), "update_ms": await _update(browser, client)}
        await browser.close()


def lacking() -> str | None:
    """What this needs and is not here, if anything."""
    if shutil.which("chromium") is None:
        return "there is no Chromium on this machine (Debian: apt-get install chromium)"
    return None if TRACES.is_dir() else f"the real traces are not at {TRACES}; README.md says where they are from"


async def _fill(stack: Stack, database_url: str, opened: AsyncExitStack) -> None:
    events = [*_traces()]
    await opened.enter_async_context(stack.role("settler", database_url))
    async with AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers, linger_ms=5) as producer:
        for event in events:
            await producer.send(stack.prefix + USAGE_RECORDED, json.dumps(event).encode())
        await producer.flush()
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while await connection.fetchval("SELECT count(*) FROM ledger") < len(events):  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # until the settler is done; nothing is measured yet
    finally:
        await connection.close()


def _traces() -> Iterator[dict[str, object]]:
    """The real traces, each hour of them spread over the days until now."""
    begin = datetime.now(UTC) - timedelta(days=DAYS)
    for kind, calls in _CALLS.items():
        rows = [*csv.DictReader((TRACES / f"AzureLLMInferenceTrace_{kind}.csv").open(encoding="utf-8"))]
        for index, row in enumerate(rows):
            component, provider, model = calls[index % len(calls)]
            yield {
                "occurred_at": (begin + timedelta(days=DAYS) * (index / len(rows))).isoformat(),
                "component": component,
                "provider": provider,
                "model": model,
                "input_tokens": int(row["ContextTokens"]),
                "output_tokens": int(row["GeneratedTokens"]),
            }


@asynccontextmanager
async def _gateway(stack: Stack, database_url: str) -> AsyncIterator[str]:
    port = free_port()
    async with stack.role("relay", database_url), stack.role("gateway", database_url, BUDGET_PORT=str(port)):
        address = f"http://127.0.0.1:{port}"
        async with httpx2.AsyncClient() as client, asyncio.timeout(_PATIENCE_S):
            while True:
                try:
                    await client.get(f"{address}/health/live")
                    break
                except httpx2.HTTPError:
                    await asyncio.sleep(0.1)  # until it listens; nothing is measured yet
        yield address


async def _paint(browser: Browser, url: str) -> float:
    times = []
    for _ in range(_OPENED):
        # A context of its own, so that nothing is in its cache.
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(url)
        handle = await page.wait_for_function(_PAINT)
        times.append(float(await handle.json_value()))
        await context.close()
    return statistics.median(times)


async def _settled(client: httpx2.AsyncClient) -> float:
    began = time.perf_counter()
    await client.post("/api/record?wait=true", json=_call())
    return (time.perf_counter() - began) * 1000


async def _update(browser: Browser, client: httpx2.AsyncClient) -> float:
    page = await browser.new_page()
    await page.goto(str(client.base_url))
    await page.wait_for_selector('[data-period="daily"] b')
    await page.wait_for_function("document.querySelector('#health').className === 'ok'")
    times = []
    for _ in range(_UPDATES):
        before = await page.text_content('[data-period="daily"] .quiet:last-child')
        began = time.perf_counter()
        await client.post("/api/record", json=_call())
        await page.wait_for_function(
            "before => document.querySelector('[data-period=\"daily\"] .quiet:last-child').textContent !== before",
            arg=before,
        )
        times.append((time.perf_counter() - began) * 1000)
    await page.close()
    return statistics.median(times)


def _call() -> dict[str, object]:
    return {"component": "rhetor", "provider": "openai", "model": "gpt-4o", "input_tokens": 1000, "output_tokens": 100}
