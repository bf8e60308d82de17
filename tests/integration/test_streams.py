"""Guards around streamed answers, with the real books behind them: whole, broken off, failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from budget_bus.client import AsyncBudgetClient, BudgetClient
from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings

CALL: dict[str, Any] = {"provider": "openai", "model": "gpt-4o", "component": "rhetor"}
ASKED = {"input_tokens": 1000, "max_output_tokens": 1000}
CHUNKS: list[dict[str, Any]] = [
    {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "Hello"}}], "usage": None},
    {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": " world"}}], "usage": None},
    {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 900, "completion_tokens": 10,
     "total_tokens": 910}},
]  # fmt: skip


@pytest.fixture
async def client(kafka: str, settings: Settings) -> AsyncIterator[AsyncBudgetClient]:
    await apply_topics(settings)
    here = settings.model_copy(update={"host": "127.0.0.1", "port": free_port(), "check_timeout_ms": 30_000})
    async with (
        settler(settings),
        decider(settings),
        gateway(here),
        AsyncBudgetClient(host="127.0.0.1", port=here.port, timeout=60) as client,
    ):
        yield client


async def arriving(count: int = len(CHUNKS), *, fails: bool = False) -> AsyncIterator[dict[str, Any]]:
    for chunk in CHUNKS[:count]:
        yield chunk
    if fails:
        raise ConnectionResetError


async def rows(pool: asyncpg.Pool) -> list[tuple[int, int, str]]:
    found = await pool.fetch("SELECT input_tokens, output_tokens, token_source FROM ledger ORDER BY recorded_at")
    return [tuple(row) for row in found]


async def test_a_whole_stream_is_passed_through_and_settled_with_its_numbers(
    client: AsyncBudgetClient, pool: asyncpg.Pool
) -> None:
    async with client.guard(**CALL, **ASKED) as call:
        assert [chunk async for chunk in call.stream(arriving())] == CHUNKS
    assert await rows(pool) == [(900, 10, "provider")]
    assert await pool.fetchval("SELECT state FROM hold") == "settled"


async def test_a_stream_that_is_left_early_is_neither_free_nor_charged_whole(
    client: AsyncBudgetClient, pool: asyncpg.Pool
) -> None:
    async with client.guard(**CALL, **ASKED) as call:
        async for _ in call.stream(arriving()):
            break
    ((put_in, put_out, source),) = await rows(pool)
    assert (put_in, source) == (1000, "estimated")
    assert 0 < put_out < 5


async def test_a_stream_that_fails_is_settled_and_its_error_goes_on(
    client: AsyncBudgetClient, pool: asyncpg.Pool
) -> None:
    async def call_once() -> None:
        async with client.guard(**CALL, **ASKED) as call:
            async for _ in call.stream(arriving(2, fails=True)):
                pass

    with pytest.raises(ConnectionResetError):
        await call_once()
    ((put_in, put_out, source),) = await rows(pool)
    assert (put_in, put_out > 0, source) == (1000, True, "estimated")


async def test_what_was_settled_by_hand_is_not_settled_again(client: AsyncBudgetClient, pool: asyncpg.Pool) -> None:
    async with client.guard(**CALL, **ASKED) as call:
        async for _ in call.stream(arriving(1)):
            break
        await call.settle(input_tokens=1, output_tokens=1)
    assert await rows(pool) == [(1, 1, "provider")]


async def test_the_client_that_blocks_does_the_same(client: AsyncBudgetClient, pool: asyncpg.Pool) -> None:
    def call_twice() -> list[dict[str, Any]]:
        port = int(client._options.base_url.rpartition(":")[2])
        with BudgetClient(host="127.0.0.1", port=port, timeout=60) as blocking:
            with blocking.guard(**CALL, **ASKED) as call:
                seen = list(call.stream(CHUNKS))
            with blocking.guard(**CALL, **ASKED) as call:
                for _ in call.stream(CHUNKS):
                    break
        return seen

    assert await asyncio.to_thread(call_twice) == CHUNKS
    whole, part = await rows(pool)
    assert whole == (900, 10, "provider")
    assert (part[0], part[2]) == (1000, "estimated")
