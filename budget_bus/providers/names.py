"""One stored name per provider, whatever a caller calls it, and the platform's tier of a model."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

Tier = Literal["local_lightweight", "local_midweight", "remote_heavyweight"]

# Squashed alias (lower case, without spaces, dots, dashes and underscores) -> stored name. The dotted and
# underscored ones among them are OpenTelemetry's values of gen_ai.provider.name.
_ALIASES: Final = {
    "azureopenai": "azure",
    "azureaiopenai": "azure",
    "azaiopenai": "azure",
    "azaiinference": "azure",
    "azureaiinference": "azure",
    "azureai": "azure",
    "awsbedrock": "bedrock",
    "amazonbedrock": "bedrock",
    "bedrock": "bedrock",
    "bedrockconverse": "bedrock",
    "aws": "bedrock",
    "claude": "anthropic",
    "deepseek": "deepseek",
    "fireworksai": "fireworks",
    "gcpgemini": "google",
    "gcpgenai": "google",
    "gcpvertexai": "google",
    "gemini": "google",
    "googleai": "google",
    "googlegemini": "google",
    "googlegenai": "google",
    "googlevertex": "google",
    "googlevertexai": "google",
    "vertex": "google",
    "vertexai": "google",
    "ibmwatsonxai": "watsonx",
    "llamacpp": "llama.cpp",
    "lmstudio": "lmstudio",
    "mistral": "mistral",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "moonshotai": "moonshotai",
    "ollama": "ollama",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexityai": "perplexity",
    "togetherai": "together",
    "voyage": "voyageai",
    "xai": "xai",
    "grok": "xai",
    "groq": "groq",
    "groqcloud": "groq",
}

# Stored name -> the provider's id in genai-prices, where the two differ.
_PRICE_BOOK_IDS: Final = {"bedrock": "aws", "xai": "x-ai"}

LOCAL_PROVIDERS: Final = frozenset({"ollama", "llama.cpp", "llamafile", "lmstudio", "localai", "local"})

_SEPARATORS = re.compile(r"[\s._\-]+")
_PARAMETERS = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)b(?![a-z0-9])")
_CLOUD_TAG = re.compile(r"[:-]cloud$")

LIGHTWEIGHT_BELOW_B: Final = 13.0


@lru_cache(maxsize=4096)
def canonical_provider(name: str) -> str:
    """
    The name under which a provider is stored: "Azure OpenAI" is azure, "gcp.gemini" is google, "x_ai" is xai.

    Case, outer spaces and separators do not matter for the known ones. An unknown provider is its own name in lower
    case with single spaces. The result is never longer than *name*, and canonical names map to themselves.
    """
    # U+0130 is the one character whose lower case is longer; a stored name must not outgrow the accepted one.
    plain = " ".join(name.replace("\u0130", "i").lower().split())
    return _ALIASES.get(_SEPARATORS.sub("", plain), plain)


def price_book_id(provider: str) -> str:
    """The id in genai-prices of a provider given by its canonical name."""
    return _PRICE_BOOK_IDS.get(provider, provider)


def is_local(provider: str, model: str) -> bool:
    """
    Whether a call runs on the platform's own machines, so that its price is really zero.

    Ollama also relays to its hosted models, tagged `-cloud` or `:cloud` (https://docs.ollama.com/cloud): not local.
    """
    return canonical_provider(provider) in LOCAL_PROVIDERS and not _CLOUD_TAG.search(model.strip().lower())


@lru_cache(maxsize=4096)
def tier_of(provider: str, model: str) -> Tier:
    """
    The platform's tier of a model: all that does not run locally is remote_heavyweight.

    A local model is local_midweight from 13 billion parameters on, counted by its name: the largest `<n>b` in it, and
    `8x7b` as 56. Below that, or without a size in the name, it is local_lightweight.
    """
    if not is_local(provider, model):
        return "remote_heavyweight"
    sizes = [int(experts or 1) * float(billions) for experts, billions in _PARAMETERS.findall(model.lower())]
    return "local_midweight" if max(sizes, default=0.0) >= LIGHTWEIGHT_BELOW_B else "local_lightweight"
