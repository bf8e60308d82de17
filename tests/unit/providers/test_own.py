"""Prices that an operator has set: from their date on, for dated names too, before the data, never by accident."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from budget_bus.policy.pricing import Price, PriceStatus
from budget_bus.providers.own import OwnPrice, price_from, rates_of
from budget_bus.providers.prices import PriceBook

JUNE = datetime(2025, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def own(
    model: str, picos: int, since: datetime = JUNE, *, provider: str = "anthropic", tier: str = "standard"
) -> OwnPrice:
    price = price_from({"input": [picos, []], "output": [2 * picos, []]}, currency="USD", source="set by a test")
    return OwnPrice(provider, model, tier, since, price)


def book_with(*prices: OwnPrice) -> PriceBook:
    book = PriceBook()
    book.use(prices, 1)
    return book


def input_picos(
    book: PriceBook, model: str, at: datetime, *, provider: str = "anthropic", tier: str = "standard"
) -> int:
    price = book.price(provider, model, at, tier)
    assert price is not None
    return price.input.base


def test_it_holds_from_its_date_on_and_the_data_before() -> None:
    book = book_with(own("claude-3-opus", 7), own("claude-3-opus", 8, JUNE + DAY))
    assert input_picos(book, "claude-3-opus", JUNE - DAY) == 15_000_000
    assert input_picos(book, "claude-3-opus", JUNE) == 7
    assert input_picos(book, "claude-3-opus", JUNE + DAY) == 8


def test_where_nothing_else_is_known_the_oldest_holds_before_its_date_too() -> None:
    book = book_with(own("house", 7, provider="acme"), own("house", 8, JUNE + DAY, provider="acme"))
    assert input_picos(book, "house", JUNE - DAY, provider="acme") == 7


@pytest.mark.parametrize("name", ["claude-3-opus-20240229", "claude-3-opus-latest", "Claude-3-Opus", " claude-3-opus "])
def test_dated_names_follow_the_plain_one(name: str) -> None:
    assert input_picos(book_with(own("claude-3-opus", 7)), name, JUNE) == 7


def test_a_dated_name_of_its_own_stays_apart_and_does_not_speak_for_the_plain_one() -> None:
    book = book_with(own("claude-3-opus", 7), own("claude-3-opus-20240229", 9))
    assert input_picos(book, "claude-3-opus-20240229", JUNE) == 9
    alone = book_with(own("claude-3-opus-20240229", 9))
    assert input_picos(alone, "claude-3-opus", JUNE) == 15_000_000


@pytest.mark.parametrize("name", ["gpt-4o-mini", "gpt-4o-audio-preview"])
def test_a_longer_name_is_another_model(name: str) -> None:
    plain = PriceBook().price("openai", name, JUNE)
    assert book_with(own("gpt-4o", 7, provider="openai")).price("openai", name, JUNE) == plain


def test_another_provider_keeps_its_own() -> None:
    book = book_with(own("gpt-4o", 7, provider="openai"))
    assert book.price("azure", "gpt-4o", JUNE) == PriceBook().price("azure", "gpt-4o", JUNE)


def test_a_service_tier_without_its_own_is_charged_the_standard_one_and_says_so() -> None:
    book = book_with(own("claude-3-opus", 7), own("claude-3-haiku", 5, tier="batch"))
    price = book.price("anthropic", "claude-3-opus", JUNE, "batch")
    assert price is not None
    assert (price.input.base, price.status) == (7, PriceStatus.FALLBACK)
    assert input_picos(book, "claude-3-haiku", JUNE, tier="batch") == 5
    assert book.price("anthropic", "claude-3-haiku", JUNE) == PriceBook().price("anthropic", "claude-3-haiku", JUNE)


def test_all_zero_is_free_on_purpose() -> None:
    price = book_with(own("house", 0, provider="acme")).price("acme", "house", JUNE)
    assert price is not None
    assert price.status is PriceStatus.FREE


def test_what_was_remembered_is_forgotten_with_a_new_version() -> None:
    book = PriceBook()
    assert book.price("acme", "house", JUNE) is None
    assert book.use([own("house", 7, provider="acme")], 2)
    assert input_picos(book, "house", JUNE, provider="acme") == 7
    assert not book.use([own("house", 7, provider="acme")], 3)
    assert book.version == 3


def test_rates_are_kept_as_they_are() -> None:
    rates = {"input": [5, [[200_000, 10]]], "output": [6, []], "cache_read": [1, []], "per_request": 9}
    price = price_from(rates, currency="USD", source="s")
    assert isinstance(price, Price)
    assert rates_of(price) == rates
    assert price.input.at(200_001) == 10


def test_what_was_set_is_listed() -> None:
    book = book_with(own("house", 7, provider="acme"), own("claude-3-opus", 8))
    assert [(row.model, row.price.input.base) for row in book.list_prices("acme", at=JUNE)] == [("house", 7)]
    (opus,) = book.list_prices("anthropic", "claude-3-opus", at=JUNE)
    assert opus.price.input.base == 8
    assert "acme" in {row.provider for row in book.list_prices(at=JUNE)}
