"""Streams under a guard on the real books: read to the end, left early, broken off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from budget_bus.client import AsyncBudgetClient, BudgetClient
from budget_bus.http.server import gateway
from budget_bus.local.ports import free_port
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import decider, settler
from budget_bus.settings import Settings
from tests.integration.processes import until

CALL: dict[str, Any] = {"component": "rhetor", "provider": "openai", "model": "gpt-4o"}
ASKED = {"input_tokens": 1000, "max_output_tokens": 5000}
WORDS = ("The quick brown", " fox jumps over", " the lazy dog.")  # 10 tokens of gpt-4o


def chunks(call: str) -> Iterator[dict[str, Any]]:
    body = {"id": call, "object": "chat.completion.chunk", "model": "gpt-4o"}
    for word in WORDS:
        yield {**body, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
    yield {**body, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield {**body, "choices": [], "usage": {"prompt_tokens": 900, "completion_tokens": 10, "total_tokens": 910}}


async def test_a_stream_is_settled_however_it_ends(kafka: str, settings: Settings, pool: asyncpg.Pool) -> None:
    await apply_topics(settings)
    listening = settings.model_copy(update={"port": free_port(), "check_timeout_ms": 30_000})

    def blocking() -> None:
        with BudgetClient(port=listening.port, timeout=60) as client:
            with client.guard(**CALL, **ASKED, task_type="whole") as call:
                assert len(list(call.stream(chunks("chatcmpl-1")))) == 5
            with client.guard(**CALL, **ASKED, task_type="left") as call:
                stream = call.stream(chunks("chatcmpl-2"))
                assert [next(stream)["id"] for _ in range(3)] == ["chatcmpl-2"] * 3

    async def broken() -> Any:
        for chunk in chunks("chatcmpl-3"):
            yield chunk
            if not chunk["choices"][0]["delta"]:
                raise ConnectionError("reset by peer")

    async with settler(listening), decider(listening), gateway(listening):
        await asyncio.to_thread(blocking)
        async with AsyncBudgetClient(port=listening.port, timeout=60) as client:
            with pytest.raises(ConnectionError, match="reset by peer"):
                async with client.guard(**CALL, **ASKED, task_type="broken") as call:
                    [chunk async for chunk in call.stream(broken())]

        async def settled() -> bool:
            return bool(await pool.fetchval("SELECT count(*) = 3 FROM hold WHERE state = 'settled'"))

        await until(settled)
    rows = await pool.fetch(
        "SELECT task_type, input_tokens, output_tokens, token_source, cost_nanos FROM ledger ORDER BY task_type"
    )
    # 2.50 and 10.00 USD per million tokens; what was held would be 0.0525.
    assert [tuple(row) for row in rows] == [
        ("broken", 1000, 10, "estimated", 2_600_000),
        ("left", 1000, 10, "estimated", 2_600_000),
        ("whole", 900, 10, "provider", 2_350_000),
    ]
