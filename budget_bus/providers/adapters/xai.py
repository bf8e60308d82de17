"""xAI: OpenAI's chat form with reasoning beside the completion, and OpenAI's responses."""

from __future__ import annotations

from budget_bus.providers.base import BaseProvider
from budget_bus.providers.shapes import CHAT, MESSAGES, RESPONSES


class XAI(BaseProvider):
    """
    In the chat form reasoning comes on top of `completion_tokens`, and `total_tokens` counts all three
    (https://forem.com/maximsaplin/grok-3-api-reasoning-tokens-are-counted-differently-197, April 2025). Gateways that
    hand Grok on have it inside; the total tells the two apart.
    """

    name = "xai"
    aliases = ("grok", "x_ai")
    book_id = "x-ai"
    shapes = (MESSAGES, CHAT, RESPONSES)
    unique_ids = True
    reasoning_outside = True
