"""The price book: what real calls cost, what has no price, and how often it may be asked."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone

import pytest

from budget_bus.errors import ConfigError
from budget_bus.policy.pricing import Price, PriceStatus, Tokens, cost_of
from budget_bus.providers.book import find_entry
from budget_bus.providers.prices import BUCKET, CACHED_PRICES, PriceBook, context_window, max_output_tokens

BOOK = PriceBook()
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
KILO = Tokens(1000, 1000)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def price(provider: str, model: str, when: datetime = NOW, tier: str = "standard") -> Price:
    found = BOOK.price(provider, model, when, tier)
    assert found is not None
    return found


# Expected costs are worked out by hand from the price named in the id, in US dollars per million tokens:
#   Anthropic, "Introducing the next generation of Claude", 2024-03-04 (Claude 3), and its prompt caching prices of
#   2024-08-14; OpenAI's pricing page as of 2023-11-06 (GPT-3.5 1106, GPT-4), 2024-05-13 and 2024-10 (GPT-4o),
#   2024-07-18 (GPT-4o mini), 2025-04-14 (GPT-4.1), 2025-06-10 (o3 down by 80 %); Google's of 2024-10-01 (Gemini 1.5);
#   DeepSeek's with off-peak hours 16:30-00:30 UTC, 2025-02-26 to 2025-09-05; xAI's of 2025-07-09 (Grok 4).
# Service tiers and Perplexity's fee are those of genai-prices 0.2.3, which says it verified the tiers on 2026-10-12/14.
@pytest.mark.parametrize(
    ("provider", "model", "when", "tier", "tokens", "nanos"),
    [
        pytest.param("openai", "gpt-4o", "2023-11-16", "standard", KILO, 12_500_000, id="gpt-4o before its launch"),
        pytest.param("openai", "GPT-4o", "2024-11-16", "standard", KILO, 12_500_000, id="gpt-4o 2.50/10, any case"),
        pytest.param("openai", "gpt-4o-2024-08-06", "2025-01-01", "standard", KILO, 12_500_000, id="a dated alias"),
        pytest.param("openai", "gpt-4o-20240806", "2025-01-01", "standard", KILO, 12_500_000, id="a compact date"),
        pytest.param("openai", "openai/gpt-4o", "2025-01-01", "standard", KILO, 12_500_000, id="its own name in front"),
        pytest.param(
            "openai", "gpt-4o-2024-05-13", "2025-01-01", "standard", KILO, 20_000_000, id="the first one 5/15"
        ),
        pytest.param(
            "openai", "gpt-4o", "2025-01-01", "standard", Tokens(1000, 10, cache_read=600), 1_850_000, id="cached 1.25"
        ),
        pytest.param("openai", "gpt-4o", "2026-11-01", "batch", KILO, 6_250_000, id="batch is half"),
        pytest.param("openai", "gpt-4o", "2026-11-01", "priority", KILO, 21_250_000, id="priority 4.25/17"),
        pytest.param("openai", "gpt-4o-mini", "2024-07-18", "standard", KILO, 750_000, id="gpt-4o-mini 0.15/0.60"),
        pytest.param("openai", "gpt-3.5-turbo-1106", "2023-11-16", "standard", KILO, 3_000_000, id="gpt-3.5 1/2"),
        pytest.param("openai", "gpt-4-0613", "2023-11-16", "standard", KILO, 90_000_000, id="gpt-4 30/60"),
        pytest.param("openai", "gpt-4.1", "2025-05-01", "standard", KILO, 10_000_000, id="gpt-4.1 2/8"),
        pytest.param("openai", "o3", "2025-06-09T23:59:59.999999", "standard", KILO, 50_000_000, id="o3's last 10/40"),
        pytest.param("openai", "o3", "2025-06-10", "standard", KILO, 10_000_000, id="o3 2/8 from midnight UTC"),
        pytest.param("openai", "o3", "2026-11-01", "batch", KILO, 5_000_000, id="o3 batch 1/4"),
        pytest.param("anthropic", "claude-3-sonnet", "2024-04-01", "standard", KILO, 18_000_000, id="sonnet 3/15"),
        pytest.param("anthropic", "claude-3-opus", "2024-04-01", "standard", KILO, 90_000_000, id="opus 15/75"),
        pytest.param(
            "anthropic", "claude-3-opus-20240229", "2024-04-01", "standard", KILO, 90_000_000, id="dated opus"
        ),
        pytest.param("anthropic", "claude-3-haiku-20240307", "2024-04-01", "standard", KILO, 1_500_000, id="haiku"),
        pytest.param(
            "anthropic",
            "claude-3-5-sonnet-20241022",
            "2024-11-01",
            "standard",
            Tokens(2000, 100, cache_read=1000, cache_creation=500),
            5_175_000,
            id="cache read 0.30 and written 3.75 beside 3/15",
        ),
        pytest.param(
            "gcp.gemini", "gemini-1.5-pro", "2025-01-01", "standard", Tokens(128_000, 1000), 165_000_000, id="128k"
        ),
        pytest.param(
            "google", "gemini-1.5-pro", "2025-01-01", "standard", Tokens(128_001, 1000), 330_002_500, id="above 128k"
        ),
        pytest.param(
            "deepseek", "deepseek-chat", "2025-08-01T12:00", "standard", KILO, 1_370_000, id="0.27/1.10 by day"
        ),
        pytest.param("deepseek", "deepseek-chat", "2025-08-01T16:30", "standard", KILO, 685_000, id="half from 16:30"),
        pytest.param("deepseek", "deepseek-chat", "2025-08-01T00:29", "standard", KILO, 685_000, id="half until 00:30"),
        pytest.param("x_ai", "grok-4", "2025-08-01", "standard", KILO, 18_000_000, id="grok-4 3/15"),
        pytest.param(
            "perplexity", "sonar-pro", "2026-11-01", "standard", KILO, 32_000_000, id="3/15 and 0.014 a request"
        ),
        pytest.param(
            "openai", "text-embedding-3-small", "2025-01-01", "standard", Tokens(1000, 0), 20_000, id="embedding"
        ),
        pytest.param("ollama", "llama3", "2025-01-01", "standard", KILO, 0, id="a local model costs nothing"),
    ],
)
def test_a_call_costs(  # noqa: PLR0917 - the columns of the table
    provider: str, model: str, when: str, tier: str, tokens: Tokens, nanos: int
) -> None:
    assert cost_of(tokens, price(provider, model, at(when), tier)).total == nanos


@pytest.mark.parametrize(
    ("provider", "model", "tier", "status"),
    [
        pytest.param("openai", "gpt-4o", "standard", PriceStatus.PRICED, id="standard"),
        pytest.param("openai", "gpt-4o", "batch", PriceStatus.PRICED, id="a tier with its own rates"),
        pytest.param("openai", "gpt-4o", "flex", PriceStatus.FALLBACK, id="a tier that this model does not have"),
        pytest.param("openai", "gpt-4o", "platinum", PriceStatus.FALLBACK, id="a tier that nobody has"),
        pytest.param("azure", "gpt-4.1", "batch", PriceStatus.FALLBACK, id="OpenAI's batch rates are not Azure's"),
        pytest.param("ollama", "llama3", "batch", PriceStatus.FREE, id="free in any tier"),
        pytest.param("openrouter", "qwen3-8b:free", "standard", PriceStatus.FREE, id="sold as free"),
    ],
)
def test_the_status_says_how_the_price_was_found(provider: str, model: str, tier: str, status: PriceStatus) -> None:
    assert price(provider, model, tier=tier).status == status


def test_a_tier_is_priced_as_standard_before_its_first_known_date() -> None:
    early = price("openai", "o3", at("2026-10-13"), "batch")
    assert (early.input.base, early.status) == (2_000_000, PriceStatus.FALLBACK)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        pytest.param("openai", "gpt-99", id="an unknown model"),
        pytest.param("openai", "gpt-4o-evil", id="a known model's name and more"),
        pytest.param("openai", "", id="an empty name"),
        pytest.param("openai", "*", id="a pattern"),
        pytest.param("google", "x gemini-1.5-pro", id="a name within a name with a space"),
        pytest.param("google", "gemini-1.5-pro\x00", id="a control character"),
        pytest.param("anthropic", "claude-3-opus\n-x", id="a line break"),
        pytest.param("acme", "gpt-4o", id="an unknown provider"),
        pytest.param("my-openai-proxy", "gpt-4o", id="a provider that only contains a known one"),
        pytest.param("ollama", "gpt-oss:120b-cloud", id="hosted by Ollama"),
        pytest.param("openai", "whisper-1", id="priced per second of audio only"),
        pytest.param("google", "gemma-3", id="a row without prices"),
        pytest.param("openrouter", "google/lyria-3-pro-preview", id="a row without prices that is not sold as free"),
    ],
)
def test_no_known_price_is_unpriced_and_never_free(provider: str, model: str) -> None:
    assert BOOK.price(provider, model, NOW) is None


def test_only_the_caller_who_asks_for_the_fallback_gets_it() -> None:
    book = PriceBook("15.00", currency="EUR")
    assert book.price("acme", "x", NOW) is None
    fallback = book.price_or_fallback("acme", "x", NOW)
    assert fallback is not None
    assert (fallback.input.base, fallback.output.base) == (15_000_000, 15_000_000)
    assert (fallback.status, fallback.currency) == (PriceStatus.FALLBACK, "EUR")
    assert book.price_or_fallback("openai", "gpt-4o", NOW) == book.price("openai", "gpt-4o", NOW)
    assert BOOK.price_or_fallback("acme", "x", NOW) is None


@pytest.mark.parametrize("bad", ["0", "-1", "free", "NaN", "0.0000001", "1e-1100000", "1e30", ""])
def test_a_fallback_that_is_no_price_stops_the_start(bad: str) -> None:
    with pytest.raises(ConfigError, match="fallback price"):
        PriceBook(bad)


def test_an_instant_has_one_price_in_every_time_zone() -> None:
    tokyo = datetime(2025, 6, 10, 8, 59, tzinfo=timezone(timedelta(hours=9)))
    assert price("openai", "o3", tokyo) == price("openai", "o3", at("2025-06-09T23:59"))


@pytest.mark.parametrize(
    "when", ["0001-01-01T00:00", "9999-12-31T23:59:59.999999"], ids=["the first instant", "the last instant"]
)
@pytest.mark.parametrize("hours", [-14, 14])
def test_any_instant_can_be_priced(when: str, hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    assert BOOK.price("openai", "o3", datetime.fromisoformat(when).replace(tzinfo=zone)) is not None


def test_an_instant_without_a_zone_is_our_own_bug() -> None:
    with pytest.raises(TypeError):
        BOOK.price("openai", "o3", datetime(2025, 1, 1))  # noqa: DTZ001


def test_hostile_names_fill_no_memory() -> None:
    book = PriceBook()
    for number in range(200):
        book.price(f"acme-{number}", f"model-{number}", NOW)
    assert book.cache_info().maxsize == CACHED_PRICES
    assert find_entry.cache_info().maxsize is not None


def test_a_repeated_question_is_answered_from_memory() -> None:
    book = PriceBook()
    first = book.price("openai", "gpt-4o", NOW)
    assert book.price("openai", "gpt-4o", NOW + timedelta(minutes=14)) is first
    assert book.cache_info().hits == 1


def test_prices_can_be_listed() -> None:
    everything = list(BOOK.list_prices(at=NOW))
    assert len(everything) > 1000
    assert all(row.price.status in {PriceStatus.PRICED, PriceStatus.FREE} for row in everything)
    assert {row.provider for row in BOOK.list_prices("x_ai", at=NOW)} == {"xai"}
    (dated,) = BOOK.list_prices("openai", "gpt-4o-2024-08-06", at=NOW)
    assert dated.price == price("openai", "gpt-4o")
    assert {row.provider for row in BOOK.list_prices(model="gpt-4o", at=NOW)} >= {"openai", "azure"}
    assert list(BOOK.list_prices("acme", at=NOW)) == []


def test_what_the_data_knows_of_sizes() -> None:
    assert context_window("openai", "gpt-4o") == 128_000
    assert context_window("acme", "x") is None
    assert max_output_tokens("openai", "gpt-4o") is None


@pytest.mark.parametrize(
    ("provider", "model", "start"),
    [
        pytest.param("deepseek", "deepseek-chat", "2025-02-01", id="by the time of day, from some date on"),
        pytest.param("deepseek", "deepseek-v4-flash", "2026-10-01", id="by the time of day"),
        pytest.param("openai", "o3", "2025-06-01", id="from a date on"),
    ],
)
def test_a_price_holds_from_one_of_its_changes_to_the_next(provider: str, model: str, start: str) -> None:
    book, begin = PriceBook(), at(start)
    end = begin + timedelta(days=28)
    edges = [begin, *book.changes(provider, model, begin, end), end]
    assert len(edges) > 2
    for first, last in itertools.pairwise(edges):
        quarters = int((last - first) / BUCKET)
        found = {book.price(provider, model, first + n * BUCKET) for n in range(quarters)}
        assert len(found) <= 1, (first, last)
