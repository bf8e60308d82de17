"""xAI: OpenAI's chat form with reasoning beside the completion, and OpenAI's responses."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

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

    def reported_cost(self, usage: Mapping[str, Any]) -> Decimal | None:
        """`cost_in_usd_ticks`, of which 10,000,000,000 are one USD (https://github.com/BerriAI/litellm/pull/37407)."""
        ticks = usage.get("cost_in_usd_ticks")
        whole = isinstance(ticks, int) and not isinstance(ticks, bool) and ticks >= 0
        return Decimal(str(ticks)).scaleb(-10) if whole else None
