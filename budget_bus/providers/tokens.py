"""How many tokens a text has for a provider's model: exact for OpenAI's vocabularies, else estimated and bounded."""

from __future__ import annotations

from functools import lru_cache

from budget_bus.providers.base import BaseProvider
from budget_bus.providers.counting import TokenCount, count_with
from budget_bus.providers.registry import ask, provider_of
from budget_bus.providers.vocabularies import (
    CL100K,
    CLAUDE_FROM_4_7,
    CLAUDE_TO_4_6,
    LLAMA,
    O200K,
    UNKNOWN,
    Vocabulary,
)

__all__ = [
    "CL100K",
    "CLAUDE_FROM_4_7",
    "CLAUDE_TO_4_6",
    "LLAMA",
    "O200K",
    "UNKNOWN",
    "TokenCount",
    "Vocabulary",
    "count_tokens",
    "vocabulary_of",
]


def count_tokens(provider: str, model: str, text: str) -> TokenCount:
    """
    Count *text* as *model* would. Special strings such as `<|endoftext|>` count as the plain text they are.

    Time grows linearly with the text, whatever is in it. The first count of a process loads a vocabulary (0.3 s).
    """
    return count_with(vocabulary_of(provider, model), text)


@lru_cache(maxsize=4096)
def vocabulary_of(provider: str, model: str) -> Vocabulary:
    """The vocabulary to count with, as the provider's adapter says, which mostly goes by the model's name."""
    return ask(BaseProvider.vocabulary, provider_of(provider), model)
