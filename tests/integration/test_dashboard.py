"""
The dashboard in headless Chromium, on a real gateway with settler and decider behind it.

Skipped where there is no Chromium (Debian: `apt-get install chromium`); BUDGET_REQUIRE_CHROMIUM=1 fails instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import Browser, Page, Request, async_playwright, expect

from budget_bus.http.server import gateway
from budget_bus.keys.file import add_key, make_key
from budget_bus.keys.key import KeyRole
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = os.environ.get("BUDGET_REQUIRE_CHROMIUM", "") not in ("", "0")
# Without these it looks for updates and hosts of its maker; it may not run as root in a sandbox.
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip
HOSTILE = "<img src=x onerror=alert(1)>"

# A machine that is busy with other tests takes its time; what is waited for is there or not.
expect.set_options(timeout=60_000)

pytestmark = pytest.mark.skipif(CHROMIUM is None and not REQUIRED, reason="there is no Chromium on this machine")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    assert CHROMIUM, "BUDGET_REQUIRE_CHROMIUM is set, and there is no Chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS])
        yield browser
        await browser.close()


@pytest.fixture
async def client(kafka: str, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    await apply_topics(settings)
    here = settings.model_copy(update={"host": "127.0.0.1", "port": free_port(), "check_timeout_ms": 30_000})
    async with (
        settler(settings),
        decider(settings),
        gateway(here),
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{here.port}", timeout=60) as client,
    ):
        yield client


class Opened:
    """A page with what went wrong in it and what it asked others for."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.wrong: list[str] = []
        self.elsewhere: list[str] = []
        self._address = address
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        page.on("request", self._asked)
        page.on("dialog", lambda dialog: self.wrong.append(dialog.message))

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self._address, "data:", "blob:")):
            self.elsewhere.append(request.url)


@pytest.fixture
async def opened(browser: Browser, client: httpx2.AsyncClient) -> AsyncIterator[Opened]:
    page = await browser.new_page()
    opened = Opened(page, str(client.base_url))
    yield opened
    assert (opened.wrong, opened.elsewhere) == ([], [])


async def go(opened: Opened, client: httpx2.AsyncClient) -> Page:
    await opened.page.goto(str(client.base_url))
    await expect(opened.page.locator("#health")).to_contain_text("all well")
    return opened.page


async def record(client: httpx2.AsyncClient, component: str = "rhetor", **fields: Any) -> None:
    event = {"component": component, "provider": "openai", "model": "gpt-4o", "input_tokens": 100_000}
    response = await client.post("/api/record?wait=true", json={**event, "output_tokens": 0, **fields})
    assert response.status_code == 200, response.text


async def limit(client: httpx2.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post("/api/limits", json=body)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


async def test_it_shows_what_is_spent_held_and_by_whom(opened: Opened, client: httpx2.AsyncClient) -> None:
    await limit(client, period="daily", limit=1, name="daily")
    await record(client)
    await record(client, HOSTILE, model="nobody-s-model")
    asked = {"component": "codex", "provider": "openai", "model": "gpt-4o", "input_tokens": 100_000}
    assert (await client.post("/api/check", json={**asked, "max_output_tokens": 0})).status_code == 200
    page = await go(opened, client)
    await expect(page.locator('[data-period="daily"] b')).to_have_text("0.25 USD")
    card = page.locator(".budget")
    await expect(card).to_contain_text("0.25 spent, 0.25 held, 0 unconfirmed of 1 USD (50.0 %)")
    await expect(page.locator("#top")).to_contain_text(HOSTILE)
    await expect(page.locator("#open")).to_contain_text("1 calls of models without a price")
    await expect(page.locator("#chart .bars path").first).to_be_attached()
    await page.get_by_label("model", exact=True).check()
    await expect(page.locator("#top")).to_contain_text("gpt-4o")


async def test_a_limit_is_tried_out_and_changed(opened: Opened, client: httpx2.AsyncClient) -> None:
    made = await limit(client, period="daily", limit=1, name="daily")
    await record(client)
    page = await go(opened, client)
    await page.get_by_role("button", name="Change the limit daily").click()
    await expect(page.locator("#limit-what-if")).to_contain_text("25.0 % of it would be taken now")
    await page.locator("input[name=limit]").fill("0.5")
    await expect(page.locator("#limit-what-if")).to_contain_text("50.0 % of it would be taken now")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".budget")).to_contain_text("of 0.5 USD (50.0 %)")
    assert (await client.get(f"/api/limits/{made['budget_id']}")).json()["limit"] == "0.5"


async def test_a_limit_is_made_with_the_keyboard_alone(opened: Opened, client: httpx2.AsyncClient) -> None:
    page = await go(opened, client)
    await page.locator("#new-limit").focus()
    await page.keyboard.press("Enter")
    await page.keyboard.type("2.5")
    await page.keyboard.press("Enter")
    await expect(page.locator(".budget")).to_contain_text("of 2.50 USD")
    (made,) = (await client.get("/api/limits")).json()["items"]
    assert (made["limit"], made["period"]) == ("2.5", "daily")


async def test_what_the_service_refuses_is_said_in_the_dialog(browser: Browser, client: httpx2.AsyncClient) -> None:
    page = await browser.new_page()
    await page.goto(str(client.base_url))
    await page.locator("#new-limit").click()
    await page.locator("input[name=limit]").fill("0.0000000001")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("#limit-said")).to_contain_text("limit")
    assert await page.locator("#limit-dialog").is_visible()
    assert (await client.get("/api/limits")).json()["items"] == []


async def test_an_alert_is_acknowledged(opened: Opened, client: httpx2.AsyncClient) -> None:
    await limit(client, period="daily", limit="0.1", name="daily", thresholds=[100])
    await record(client)
    page = await go(opened, client)
    await page.locator("#alerts button").click()
    await expect(page.locator("#alerts")).to_contain_text("No open alerts")
    (alert,) = (await client.get("/api/alerts")).json()["items"]
    assert alert["acknowledged_by"] == "http:127.0.0.1"


async def test_it_fits_a_phone(opened: Opened, client: httpx2.AsyncClient) -> None:
    await limit(client, period="daily", limit=1, name="a" * 100)
    await record(client, "b" * 200)
    await opened.page.set_viewport_size({"width": 360, "height": 640})
    page = await go(opened, client)
    await expect(page.locator(".budget")).to_be_visible()
    await expect(page.locator("#top")).to_contain_text("bbb")
    # The chart is laid out when its library has come, and then anew for the width that there is.
    await expect(page.locator("#chart .main-svg").first).to_be_attached()
    await page.wait_for_function("document.documentElement.scrollWidth <= 360", timeout=60_000)


async def test_a_call_is_shown_when_it_is_made_without_asking_for_the_page_again(
    opened: Opened, client: httpx2.AsyncClient
) -> None:
    await limit(client, period="daily", limit=1, name="daily")
    page = await go(opened, client)
    await expect(page.locator("#live")).to_contain_text("Waiting for calls")
    await record(client)
    await expect(page.locator("#live")).to_contain_text("openai/gpt-4o")
    await expect(page.locator('[data-period="daily"] b')).to_have_text("0.25 USD")
    await expect(page.locator(".budget")).to_contain_text("0.25 spent")


async def test_with_keys_it_asks_for_one_and_uses_it_for_the_feeds_too(
    browser: Browser, kafka: str, settings: Settings, tmp_path: Path
) -> None:
    await apply_topics(settings)
    keys = tmp_path / "keys.json"
    add_key(keys, make_key("bdgt_x", name="x", roles=[KeyRole.READ], components=[], created_at=datetime.now(UTC)))
    here = settings.model_copy(update={"host": "127.0.0.1", "port": free_port(), "api_keys_file": keys})
    async with settler(settings), gateway(here):
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{here.port}")
        await expect(page.locator("#key-form")).to_be_visible()
        await page.locator("#key").fill("bdgt_x")
        async with page.expect_websocket() as opening:
            await page.get_by_role("button", name="Use it").click()
        await (await opening.value).wait_for_event("framereceived")
        await expect(page.locator("#health")).to_contain_text("all well")
        await expect(page.locator("#key-form")).to_be_hidden()
