"""DeepSeek: OpenAI's chat form, Anthropic's messages."""

from __future__ import annotations

from budget_bus.providers.base import BaseProvider
from budget_bus.providers.shapes import CHAT, MESSAGES


class DeepSeek(BaseProvider):
    """`prompt_cache_hit_tokens` and `prompt_cache_miss_tokens` add up to the prompt; reasoning is in the completion."""

    name = "deepseek"
    shapes = (MESSAGES, CHAT)
    unique_ids = True
