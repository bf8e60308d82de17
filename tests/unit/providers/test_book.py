"""The bundled price data: what our reading of it takes for granted, checked on every row."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TimeOfDateConstraint,
)

from budget_bus.policy.pricing import Tokens, cost_of
from budget_bus.providers.book import Entry, find_entry, price_of
from budget_bus.providers.prices import BUCKET

ROWS: list[tuple[Provider, ModelInfo]] = [(p, row) for p in get_snapshot().providers for row in p.models]
TIERS = {
    "standard": None,
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}


def parts(row: ModelInfo) -> Iterator[ConditionalPrice | PriceVariant]:
    if isinstance(row.prices, ModelPrice):
        yield ConditionalPrice(prices=row.prices)
    else:
        yield from row.prices
    yield from row.price_variants or ()


def is_on_a_bucket_edge(moment: time) -> bool:
    offset = moment.utcoffset() or timedelta()
    since_midnight = timedelta(
        hours=moment.hour, minutes=moment.minute, seconds=moment.second, microseconds=moment.microsecond
    )
    return (since_midnight - offset) % BUCKET == timedelta()


def test_all_of_a_bucket_has_one_price() -> None:
    constraints = [part.constraint for _, row in ROWS for part in parts(row) if part.constraint is not None]
    assert len(constraints) > 100
    for constraint in constraints:
        if isinstance(constraint, TimeOfDateConstraint):
            assert is_on_a_bucket_edge(constraint.start_time)
            assert is_on_a_bucket_edge(constraint.end_time)
        else:
            assert isinstance(constraint, StartDateConstraint)


def test_the_bucket_guard_sees_a_price_that_changes_within_a_bucket() -> None:
    assert not is_on_a_bucket_edge(time(16, 20, tzinfo=UTC))
    assert not is_on_a_bucket_edge(time(16, 30, 1, tzinfo=UTC))


def test_every_price_per_token_is_charged_or_left_out_on_purpose() -> None:
    """A new kind of token price in the data must be noticed, not be silently free."""
    charged = {"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "output_reasoning_mtok"}
    charged |= {"input_audio_mtok", "output_audio_mtok", "cache_write_1h_mtok", "input_image_mtok", "output_image_mtok"}
    # An event counts neither video and citations nor what of the cached tokens was audio or an image.
    not_counted = {"cache_audio_read_mtok", "cache_image_read_mtok", "output_citation_mtok"}
    not_counted |= {"input_video_mtok", "output_video_mtok"}
    listed = {key for _, row in ROWS for part in parts(row) for key in part.prices.__dict__ if key.endswith("_mtok")}
    assert listed <= charged | not_counted


def test_only_resellers_float_leftovers_are_finer_than_a_pico() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    rounded = set()
    for provider, row in ROWS:
        price = price_of(Entry(provider.id, row, own=True), now, "standard")
        if price is not None and "rounded" in price.source:
            rounded.add(provider.id)
    assert rounded == {"openrouter", "huggingface_together"}


@pytest.mark.parametrize("tier", TIERS)
def test_our_cost_is_the_library_s_cost_rounded_once(tier: str) -> None:
    """On a sample of rows, dates and sizes around every tier's threshold."""
    draw = random.Random(tier)
    compared = 0
    for provider, row in draw.sample(ROWS, 500):
        at = draw.choice([datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 8, 1, 3, tzinfo=UTC)])
        at = draw.choice([at, datetime(2026, 11, 20, 2, tzinfo=UTC)])
        price = price_of(Entry(provider.id, row, own=True), at, tier)
        if price is None or "rounded" in price.source:
            continue
        size = draw.choice([1_000, 128_000, 128_001, 200_000, 200_001, 272_000, 272_001])
        read, created, output = draw.randrange(size // 2), draw.randrange(size // 2), draw.randrange(9_000)
        usage = {"input_tokens": size, "output_tokens": output}
        usage |= {"cache_read_tokens": read, "cache_write_tokens": created}
        theirs = row.get_prices(at, TIERS[tier]).calc_price(usage)["total_price"] * 10**9
        assert cost_of(Tokens(size, output, read, created), price).total == round(Decimal(theirs)), row.id
        compared += 1
    assert compared > 200


def test_another_provider_s_row_is_not_its_own() -> None:
    azure = find_entry("azure", "gpt-4.1")
    assert azure is not None
    assert not azure.own
