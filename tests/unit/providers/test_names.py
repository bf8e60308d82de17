"""Provider names and tiers."""

from __future__ import annotations

import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.providers.names import canonical_provider, is_local, price_book_id, tier_of


@pytest.mark.parametrize(
    ("names", "stored"),
    [
        (["openai", "OpenAI", " open ai "], "openai"),
        (["anthropic", "Anthropic", "claude"], "anthropic"),
        (["google", "gemini", "gcp.gemini", "gcp.vertex_ai", "gcp.gen_ai", "Vertex AI", "google-genai"], "google"),
        (["xai", "x-ai", "x_ai", "X.AI", "grok"], "xai"),
        (["mistral", "mistral_ai", "MistralAI"], "mistral"),
        (["bedrock", "aws.bedrock", "aws_bedrock", "Amazon Bedrock", "aws"], "bedrock"),
        (
            ["azure", "azure.ai.openai", "az.ai.openai", "azure.ai.inference", "az.ai.inference", "Azure OpenAI"],
            "azure",
        ),
        (["groq", "GROQ"], "groq"),
        (["deepseek", "deep-seek"], "deepseek"),
        (["openrouter", "open_router"], "openrouter"),
        (["ollama"], "ollama"),
        (["perplexity", "together", "together_ai", "cohere"], None),
        (["  Acme   Models "], "acme models"),
        (["my-openai-proxy"], "my-openai-proxy"),
        (["openai2"], "openai2"),
    ],
)
def test_every_alias_has_one_stored_name(names: list[str], stored: str | None) -> None:
    for name in names:
        assert canonical_provider(name) == (stored or name.removesuffix("_ai"))


@given(st.text(min_size=1, max_size=40))
def test_a_stored_name_maps_to_itself_and_outgrows_no_column(name: str) -> None:
    stored = canonical_provider(name)
    assert canonical_provider(stored) == stored
    assert len(stored) <= max(len(name), 10)


def test_every_provider_of_the_price_data_is_found_under_its_stored_name() -> None:
    for provider in get_snapshot().providers:
        assert price_book_id(canonical_provider(provider.id)) == provider.id


@pytest.mark.parametrize(
    ("provider", "model", "tier"),
    [
        pytest.param("ollama", "llama3:8b", "local_lightweight", id="8b is light"),
        pytest.param("ollama", "codellama:13b", "local_midweight", id="13b is where midweight starts"),
        pytest.param("ollama", "llama3:70b", "local_midweight", id="nothing local is heavyweight"),
        pytest.param("ollama", "mixtral:8x7b", "local_midweight", id="experts multiply"),
        pytest.param("ollama", "qwen2.5:0.5b", "local_lightweight", id="a fraction of a billion"),
        pytest.param("ollama", "llama3", "local_lightweight", id="no size in the name"),
        pytest.param("ollama", "llama3.3:70B-Instruct-q4", "local_midweight", id="case and suffixes do not matter"),
        pytest.param("LM Studio", "qwen3-30b-a3b", "local_midweight", id="all parameters count, not the active ones"),
        pytest.param("ollama", "gpt-oss:120b-cloud", "remote_heavyweight", id="hosted by Ollama is not local"),
        pytest.param("openai", "gpt-4o-mini", "remote_heavyweight", id="small but remote"),
        pytest.param("acme", "tiny-1b", "remote_heavyweight", id="an unknown provider is remote"),
    ],
)
def test_tier_of(provider: str, model: str, tier: str) -> None:
    assert tier_of(provider, model) == tier
    assert is_local(provider, model) == tier.startswith("local")
