"""Newer price data from a real web server: taken over, held back, kept over a restart, and never an error offline."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from budget_bus.bookkeeping.price_updates import apply, keep_updating
from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.providers import data
from budget_bus.settings import Settings
from tests.integration.books import Books, usage
from tests.integration.budget_command import budget
from tests.integration.http_client import client_of

PATH = "/api/providers/prices"
OPUS = ("anthropic", "claude-3-opus-latest")
EVENT = {"provider": "anthropic", "model": "claude-3-opus", "input_tokens": 1000, "output_tokens": 0}


@pytest.fixture(autouse=True)
def _given_back() -> Iterator[None]:
    yield
    data.use(None, 0)


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


def fetched(input_mtok: str | None) -> bytes:
    """The bundled data with another price of one model, or without it."""
    document = copy.deepcopy(data.bundled())
    for provider in document:
        if provider["id"] == OPUS[0]:
            if input_mtok is None:
                provider["models"] = [one for one in provider["models"] if one["id"] != OPUS[1]]
            for one in provider["models"]:
                if one["id"] == OPUS[1] and input_mtok is not None:
                    one["prices"]["input_mtok"] = input_mtok
    return json.dumps(document).encode()


class Site:
    """Serves `content` at every path."""

    def __init__(self) -> None:
        self.content, self.status, self.port, self.asked = b"", 200, 0, asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/data.json"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await reader.readline()).strip():
            pass
        head = f"HTTP/1.1 {self.status} Said\r\nContent-Length: {len(self.content)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + self.content)
        await writer.drain()
        writer.close()
        self.asked.set()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    server = await asyncio.start_server(site.answer, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    async with server:
        yield site


async def put(books: Books, raw: bytes) -> Any:
    return await apply(books.pool, raw, source="test", actor="test", factor=Decimal(2))


async def costs(books: Books) -> list[int]:
    rows = await books.pool.fetch("SELECT cost_nanos FROM ledger ORDER BY recorded_at")
    return [row["cost_nanos"] for row in rows]


async def test_a_running_settler_uses_it_with_the_next_batch_and_a_new_one_from_the_first(books: Books) -> None:
    keeper = books.settler()
    await books.settle(usage(**EVENT), by=keeper)
    await put(books, fetched("16"))
    await books.settle(usage(**EVENT), by=keeper)
    data.use(None, 0)  # as a process that begins
    await books.settle(usage(**EVENT))
    assert await costs(books) == [15_000_000, 16_000_000, 16_000_000]


async def test_each_change_is_a_fact_and_the_same_data_again_is_none(books: Books) -> None:
    first = await put(books, fetched("16"))
    again = await put(books, fetched("16"))
    assert [change.key for change in first.taken] == [OPUS]
    assert again.taken == ()
    (row,) = await books.pool.fetch("SELECT before, after, actor FROM change WHERE kind = 'price'")
    assert (row["before"]["prices"]["input_mtok"], row["after"]["prices"]["input_mtok"]) == ("15", "16")
    assert await books.pool.fetchval("SELECT count(*) FROM outbox WHERE topic = 'budget.changes'") == 1
    assert await books.pool.fetchval("SELECT count(*) FROM price_data") == 1


async def test_what_waits_is_approved_or_rejected(settings: Settings, kafka: str, books: Books, site: Site) -> None:
    await apply_topics(settings)
    site.content = fetched("150")
    async with client_of(settings.model_copy(update={"price_update_url": site.url})) as client:
        told = (await client.post(f"{PATH}/update")).json()
        assert (told["updated"], told["changed"], len(told["waiting"])) == (True, [], 1)
        (waiting,) = (await client.get(f"{PATH}/reviews")).json()["items"]
        assert "moves from 15 to 150" in waiting["reason"]
        await books.settle(usage(**EVENT))
        body = {"provider": OPUS[0], "model": OPUS[1]}
        assert (await client.post(f"{PATH}/reviews", json={**body, "approve": False})).json()["state"] == "rejected"
        (noted,) = (await client.get("/api/changes?kind=price")).json()["items"]
        assert noted["after"] == {**noted["before"], "review": "rejected"}
        assert (await client.post(f"{PATH}/update")).json()["waiting"] == []
        assert (await client.post(f"{PATH}/reviews", json={**body, "approve": True})).status_code == 404
        site.content = fetched("160")
        assert len((await client.post(f"{PATH}/update")).json()["waiting"]) == 1
        assert (await client.post(f"{PATH}/reviews", json={**body, "approve": True})).json()["state"] == "approved"
        await books.settle(usage(**EVENT))
        (listed,) = (await client.get(PATH, params={"provider": OPUS[0], "model": OPUS[1]})).json()["items"]
    assert await costs(books) == [15_000_000, 160_000_000]
    assert listed["input"] == "160"


async def test_a_model_that_vanished_is_let_go_when_that_is_approved(
    settings: Settings, kafka: str, books: Books, site: Site
) -> None:
    await apply_topics(settings)
    site.content = fetched(None)
    async with client_of(settings.model_copy(update={"price_update_url": site.url})) as client:
        assert len((await client.post(f"{PATH}/update")).json()["waiting"]) == 1
        await books.settle(usage(**EVENT))
        body = {"provider": OPUS[0], "model": OPUS[1], "approve": True}
        assert (await client.post(f"{PATH}/reviews", json=body)).status_code == 200
        await books.settle(usage(**EVENT))
    assert await costs(books) == [15_000_000, None]


async def test_what_no_longer_differs_waits_no_longer(books: Books) -> None:
    assert len((await put(books, fetched("150"))).held) == 1
    assert (await put(books, fetched("15"))).held == ()
    assert await books.pool.fetchval("SELECT count(*) FROM price_review") == 0


@pytest.mark.parametrize(
    ("status", "content"), [(404, b"gone"), (500, b""), (200, b"<html>sign in</html>"), (200, b"[]")]
)
async def test_what_is_no_data_changes_nothing_and_is_no_fault_of_the_service(
    settings: Settings, kafka: str, site: Site, status: int, content: bytes
) -> None:
    await apply_topics(settings)
    site.status, site.content = status, content
    async with client_of(settings.model_copy(update={"price_update_url": site.url})) as client:
        answer = await client.post(f"{PATH}/update")
        assert answer.status_code < 500
        if status == 200:
            assert "price data" in answer.json()["detail"]
        else:
            assert (answer.json()["updated"], str(status) in answer.json()["detail"]) == (False, True)
        assert (await client.get(f"{PATH}/reviews")).json()["items"] == []


async def test_offline_the_command_keeps_the_prices_says_so_and_exits_0(settings: Settings, kafka: str) -> None:
    await apply_topics(settings)
    nobody = f"http://127.0.0.1:{free_port()}/data.json"
    served = settings.model_copy(update={"port": free_port(), "price_update_url": nobody})
    async with gateway(served):
        told = await budget(served, "prices", "update", "--all")
    assert "offline, the last good prices stay" in told.out


async def test_the_command_lists_and_decides_what_waits(settings: Settings, kafka: str, site: Site) -> None:
    await apply_topics(settings)
    site.content = fetched("150")
    served = settings.model_copy(update={"port": free_port(), "price_update_url": site.url})
    async with gateway(served):
        assert "1 wait for approval" in (await budget(served, "prices", "update", "--all")).out
        assert "moves from 15 to 150" in (await budget(served, "prices", "reviews")).out
        assert "approved" in (await budget(served, "prices", "approve", *OPUS)).out
        gone = await budget(served, "prices", "reject", *OPUS, code=1)
    assert "nothing" not in gone.out
    assert "waits" in gone.err


async def test_the_bookkeeper_updates_at_its_start_and_survives_being_offline(books: Books, site: Site) -> None:
    site.content = fetched("16")
    stopping = asyncio.Event()

    async def updated() -> None:
        while await books.pool.fetchval("SELECT count(*) FROM price_data") == 0:
            await site.asked.wait()
            await asyncio.sleep(0)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        work = keep_updating(books.pool, stopping, url=site.url, factor=Decimal(2), interval_s=3600, at_start=True)
        group.create_task(work)
        await updated()
        stopping.set()
    nobody = f"http://127.0.0.1:{free_port()}/data.json"
    stopping = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        offline = group.create_task(
            keep_updating(books.pool, stopping, url=nobody, factor=Decimal(2), interval_s=0.01, at_start=True)
        )
        await asyncio.wait([offline], timeout=0.2)
        assert not offline.done()
        stopping.set()
    assert await books.pool.fetchval("SELECT count(*) FROM price_data") == 1
