"""Every class of tokens, from the event over its price and its bound to the ledger, and again when it is restated."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from budget_bus.bookkeeping.restating import Restating
from budget_bus.policy.budget import Policy
from budget_bus.providers.prices import PriceBook
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.prices import set_price
from budget_bus.store.restatements import Range
from tests.integration.books import USD, Books, check, usage

CLAUDE = {"provider": "anthropic", "model": "claude-sonnet-4-20250514"}
WRITTEN = {"input_tokens": 2_000, "cache_creation_input_tokens": 1_000, "cache_creation_1h_input_tokens": 400}
DRAWN = {"input_image_tokens": 100, "output_image_tokens": 50}


@pytest.fixture
def books(pool: asyncpg.Pool) -> Books:
    return Books(pool)


async def row(books: Books) -> dict[str, Any]:
    found = await books.pool.fetchrow("SELECT * FROM ledger")
    assert found is not None
    return dict(found)


async def test_what_is_kept_for_an_hour_is_charged_at_its_own_rate(books: Books) -> None:
    await books.settle(usage(**CLAUDE, **WRITTEN, output_tokens=10))
    kept = await row(books)
    assert kept["cache_creation_1h_input_tokens"] == 400
    # 1000 x 3.00 + 600 x 3.75 + 400 x 6.00 + 10 x 15.00 USD per million
    assert kept["cost_nanos"] == 3_000_000 + 2_250_000 + 2_400_000 + 150_000
    await books.assert_exact()


async def test_images_are_charged_at_their_own_rates(books: Books) -> None:
    said = {"provider": "google", "model": "gemini-2.5-flash-image", "input_tokens": 120, "output_tokens": 60}
    await books.settle(usage(**said, **DRAWN))
    kept = await row(books)
    assert (kept["input_image_tokens"], kept["output_image_tokens"]) == (100, 50)
    assert kept["cost_nanos"] == 120 * 300 + 10 * 2_500 + 50 * 30_000  # image input costs what text does
    await books.assert_exact()


async def test_a_hold_allows_for_what_is_kept_for_an_hour_unless_the_call_has_none(books: Books) -> None:
    await books.limit(USD)
    asked = {**CLAUDE, "estimated_tokens": None, "input_tokens": 1_000, "max_output_tokens": 0}
    (most,) = await books.ask(check(**asked))
    (less,) = await books.ask(check(**asked, cache_creation_1h_input_tokens=0))
    assert most["hold"]["amount"] == "0.006"
    assert less["hold"]["amount"] == "0.00375"


async def test_a_hold_of_a_text_allows_for_no_images(books: Books) -> None:
    await books.limit(USD)
    asked = {"provider": "openai", "model": "gpt-image-1", "estimated_tokens": None, "max_output_tokens": 0}
    (counts,) = await books.ask(check(**asked, input_tokens=1_000))
    (without,) = await books.ask(check(**asked, input_tokens=1_000, input_image_tokens=0))
    assert (counts["hold"]["amount"], without["hold"]["amount"]) == ("0.01", "0.005")


async def test_every_class_is_restated_at_its_own_rate(books: Books) -> None:
    counts = {
        "input_tokens": 100, "output_tokens": 100, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 30,
        "cache_creation_1h_input_tokens": 10, "input_audio_tokens": 5, "input_image_tokens": 7,
        "reasoning_output_tokens": 40, "output_audio_tokens": 11, "output_image_tokens": 13,
    }  # fmt: skip
    await books.settle(usage(provider="acme", model="house", **counts))
    each = ["input", "output", "cache_read", "cache_creation", "cache_creation_1h", "input_audio", "input_image"]
    each += ["reasoning_output", "output_audio", "output_image"]
    rates = {name: [10**number * 1000, []] for number, name in enumerate(each)}  # a digit of the cost each
    await set_price(books.pool, "acme", "house", rates, effective_from=datetime(2020, 1, 1, tzinfo=UTC), actor="test")
    async with books.pool.acquire() as connection:
        work = Restating(
            connection=connection,
            catalogue=Catalogue(Policy.WARN),
            prices=PriceBook(),
            wanted=Range(),
            actor="test",
            reason="a price arrived",
            now=lambda: datetime.now(UTC),
            progress=lambda *_: None,
        )
        assert await work.run() == 1
    numbers = [38, 36, 20, 20, 10, 5, 7, 40, 11, 13]
    assert (await row(books))["cost_nanos"] == sum(number * 10**place for place, number in enumerate(numbers))
    await books.assert_exact()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        pytest.param({"cache_creation_1h_input_tokens": 1}, "cache_creation_1h_input_tokens", id="more than written"),
        pytest.param(
            {"input_tokens": 5, "input_audio_tokens": 3, "input_image_tokens": 3},
            "input_audio_tokens",
            id="audio and images above the input",
        ),
        pytest.param(
            {"output_tokens": 5, "reasoning_output_tokens": 3, "output_image_tokens": 3},
            "reasoning_output_tokens",
            id="reasoning and images above the output",
        ),
    ],
)
async def test_impossible_counts_are_dead_letters_that_name_the_field(
    books: Books, wrong: dict[str, int], field: str
) -> None:
    await books.settle(usage(**wrong))
    letter = await books.pool.fetchrow("SELECT * FROM outbox WHERE topic = 'usage.recorded.dlq'")
    assert letter is not None
    reason = dict(zip(letter["header_names"], letter["header_values"], strict=True))["dlq_reason"]
    assert field.encode() in reason
    assert await books.pool.fetchval("SELECT count(*) FROM ledger") == 0
