"""Mistral: OpenAI's chat form."""

from __future__ import annotations

from budget_bus.providers.base import BaseProvider
from budget_bus.providers.shapes import CHAT, EMBEDDINGS


class Mistral(BaseProvider):
    """Embeddings have a completion of 0 tokens."""

    name = "mistral"
    aliases = ("mistral_ai",)
    shapes = (EMBEDDINGS, CHAT)
    unique_ids = True
