"""Anthropic: messages, and its endpoint in OpenAI's form."""

from __future__ import annotations

from budget_bus.providers.base import BaseProvider
from budget_bus.providers.shapes import CHAT, MESSAGES
from budget_bus.providers.vocabularies import Vocabulary, claude_vocabulary


class Anthropic(BaseProvider):
    """What was read from the cache and written to it is outside of `input_tokens`."""

    name = "anthropic"
    aliases = ("claude",)
    shapes = (MESSAGES, CHAT)
    unique_ids = True

    def vocabulary(self, model: str) -> Vocabulary:
        return claude_vocabulary(model)
