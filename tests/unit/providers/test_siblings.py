"""Which models are suggested instead of another: those for text that a call of that name would really be priced as."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from budget_bus.providers.book import list_models, provider_names
from budget_bus.providers.prices import PriceBook
from budget_bus.providers.siblings import converses, siblings

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        pytest.param("openai", "gpt-4o", id="a chat model"),
        pytest.param("openai", "gpt-4o-mini", id="a smaller one"),
        pytest.param("openai", "o3", id="a reasoning model"),
        pytest.param("openai", "chatgpt-4o-latest", id="a moving name"),
        pytest.param("anthropic", "claude-haiku-4-5", id="whose fifth generation is not a date"),
        pytest.param("google", "gemini-2.5-flash", id="one that also hears, and has a price for it"),
        pytest.param("groq", "openai/gpt-oss-20b", id="another maker's name in front"),
        pytest.param("bedrock", "amazon.nova-lite-v1:0", id="a version behind it"),
        pytest.param("xai", "grok-4-0709", id="a dated one without an undated name of its own"),
        pytest.param("azure", "o3-2025-04-16", id="a dated one that its undated name finds"),
        pytest.param("mistral", "mistral-large", id="the undated name of a dated one"),
    ],
)
def test_a_text_model_is_there(provider: str, model: str) -> None:
    assert model in list_models(provider)
    assert model in siblings(provider, NOW)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        pytest.param("openai", "text-embedding-3-small", id="embeddings"),
        pytest.param("openai", "gpt-4o-audio-preview", id="audio"),
        pytest.param("openai", "gpt-realtime", id="realtime"),
        pytest.param("openai", "gpt-image-1", id="images"),
        pytest.param("openai", "chatgpt-image-latest", id="images that are priced by the token"),
        pytest.param("openai", "tts-1", id="speech"),
        pytest.param("openai", "gpt-4o-transcribe", id="transcription"),
        pytest.param("openai", "moderation", id="moderation, which is free"),
        pytest.param("openai", "gpt-4o-search-preview", id="search"),
        pytest.param("openai", "o3-deep-research", id="deep research"),
        pytest.param("openai", "computer-use", id="computer use"),
        pytest.param("openai", "davinci-002", id="completion of texts"),
        pytest.param("openai", "gpt-3.5-turbo-instruct", id="completion under a chat model's name"),
        pytest.param("openai", "ft:gpt-4o", id="fine-tuned models in general"),
        pytest.param("openai", "gpt-4o-2024-05-13", id="a dated one beside its undated name"),
        pytest.param("openai", "gpt-3.5-turbo-0613", id="a date of month and day"),
        pytest.param("mistral", "mistral-large-2512", id="a date of year and month"),
        pytest.param("google", "gemini-nano-banana-2.1", id="images under a name of fashion"),
        pytest.param("google", "gemini-live-2.5-flash", id="conversation"),
        pytest.param("google", "gemini-2.0-flash", id="deprecated"),
        pytest.param("google", "gemma-3", id="free of charge"),
        pytest.param("groq", "meta-llama/llama-guard-4-12b", id="a safety model"),
        pytest.param("bedrock", "regional.anthropic.claude-haiku-5-5", id="a name of the data that nobody calls"),
    ],
)
def test_another_kind_of_model_is_not(provider: str, model: str) -> None:
    assert model in list_models(provider)
    assert model not in siblings(provider, NOW)


def test_every_one_of_any_provider_has_both_prices_under_its_own_name() -> None:
    book = PriceBook()
    found = [(provider, model) for provider in provider_names() for model in siblings(provider, NOW)]
    assert len(found) > 1000
    for provider, model in found:
        price = book.price(provider, model, NOW)
        assert price is not None, (provider, model)
        assert price.input.base > 0 < price.output.base, (provider, model)
        assert converses(provider, model, NOW), (provider, model)


def test_an_alias_of_a_provider_has_its_models() -> None:
    assert siblings("Azure OpenAI", NOW) == siblings("azure", NOW) != ()


@pytest.mark.parametrize("provider", ["ollama", "nobody", ""])
def test_a_local_or_unknown_provider_has_none(provider: str) -> None:
    assert siblings(provider, NOW) == ()


def test_an_answer_is_remembered_for_a_quarter_of_an_hour() -> None:
    first = siblings("openai", NOW)
    assert siblings("openai", NOW + timedelta(minutes=14, seconds=59)) is first
    assert siblings("openai", NOW + timedelta(minutes=15)) is not first


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        pytest.param("openai", "gpt-4o", True, id="a chat model"),
        pytest.param("openai", "gpt-4o-2024-08-06", True, id="a dated alias of one"),
        pytest.param("azure", "gpt-4o", True, id="one that another provider's price stands in for"),
        pytest.param("openai", "text-embedding-3-small", False, id="embeddings"),
        pytest.param("openai", "gpt-realtime", False, id="realtime"),
        pytest.param("openai", "never-heard-of", False, id="a model that nobody knows"),
    ],
)
def test_which_models_answer_texts(provider: str, model: str, expected: bool) -> None:
    assert converses(provider, model, NOW) is expected
