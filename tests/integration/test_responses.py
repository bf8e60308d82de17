"""Raw responses of providers, through `usage_fields`, into the ledger: the tokens and the cost of every vector."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg

from budget_bus.events.usage import UsageRecorded
from budget_bus.producers.fields import read_fields
from budget_bus.producers.responses import usage_fields
from tests.integration.books import Books

VECTORS = Path(__file__).parents[2] / "schemas" / "examples" / "usage"


def _vectors() -> list[dict[str, Any]]:
    found = [json.loads(file.read_text()) for file in sorted(VECTORS.glob("*.json"))]
    return [vector for vector in found if "expected" in vector]


def _event(vector: dict[str, Any], **fields: Any) -> bytes:
    raw = vector["response"] if "response" in vector else vector["chunks"]
    said = usage_fields(vector["provider"], vector["model"], raw, component="rhetor", occurred_at=vector["at"])
    return read_fields(UsageRecorded, {**said, **fields}).model_dump_json(exclude_unset=True).encode()


async def test_every_vector_is_in_the_ledger_with_its_tokens_and_its_cost(pool: asyncpg.Pool) -> None:
    vectors, books = _vectors(), Books(pool)
    # An operation of its own tells each row apart; the ids of some vectors' responses are the same on purpose.
    await books.settle(*(_event(v, operation_id=str(i), event_id=None) for i, v in enumerate(vectors)))
    rows = {int(row["operation_id"]): row for row in await pool.fetch("SELECT * FROM ledger")}
    assert set(rows) == set(range(len(vectors)))
    for index, vector in enumerate(vectors):
        row, tokens = rows[index], vector["expected"]["tokens"]
        assert (row["input_tokens"], row["output_tokens"]) == (tokens["input"], tokens["output"]), vector["title"]
        assert row["cache_read_input_tokens"] == tokens.get("cache_read", 0), vector["title"]
        if "cost" in vector:
            assert row["cost_nanos"] == Decimal(vector["cost"]["usd"]).scaleb(9).to_integral_value(), vector["title"]
        if "reported_cost" in vector["expected"]:
            assert row["reported_cost_nanos"] == Decimal(vector["expected"]["reported_cost"]).scaleb(9)


async def test_a_response_that_is_recorded_again_is_counted_once(pool: asyncpg.Pool) -> None:
    books = Books(pool)
    [vector] = [vector for vector in _vectors() if vector["title"] == "Responses API, streamed: the last event has it"]
    await books.settle(_event(vector), _event(vector))
    await books.settle(_event(vector))
    assert await pool.fetchval("SELECT count(*) FROM ledger") == 1


async def test_a_response_settles_the_hold_of_its_call(pool: asyncpg.Pool) -> None:
    books = Books(pool)
    asked = {"component": "rhetor", "provider": "openai", "model": "gpt-4o", "estimated_tokens": 5000}
    [answer] = await books.ask({"request_id": "5a2f1c52-4cf5-4a56-9d2f-9d4f0e0c8a11", **asked})
    assert answer["allowed"]
    response = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306},
    }
    said = usage_fields("OpenAI", "gpt-4o", response, component="rhetor")
    await books.settle(read_fields(UsageRecorded, said).model_dump_json(exclude_unset=True).encode())
    assert await pool.fetchval("SELECT state FROM hold") == "settled"
