"""One stored name per provider, whatever a caller calls it, and the platform's tier of a model."""

from __future__ import annotations

from functools import lru_cache

from budget_bus.providers.base import BaseProvider, Tier
from budget_bus.providers.registry import ask, provider_of, stored_name

__all__ = ["Tier", "canonical_provider", "is_local", "price_book_id", "tier_of"]


@lru_cache(maxsize=4096)
def canonical_provider(name: str) -> str:
    """
    The name under which a provider is stored: "Azure OpenAI" is azure, "gcp.gemini" is google, "x_ai" is xai.

    Case, outer spaces and separators do not matter for the known ones. An unknown provider is its own name in lower
    case with single spaces. The result is never longer than *name*, and canonical names map to themselves.
    """
    return stored_name(name)


def price_book_id(provider: str) -> str:
    """The id in genai-prices of a provider given by its canonical name."""
    return provider_of(provider).book_id or provider


def is_local(provider: str, model: str) -> bool:
    """Whether a call runs on the platform's own machines."""
    return ask(BaseProvider.is_local, provider_of(provider), model)


@lru_cache(maxsize=4096)
def tier_of(provider: str, model: str) -> Tier:
    """The platform's tier of a model; `BaseProvider.tier` has the rule."""
    return ask(BaseProvider.tier, provider_of(provider), model)
