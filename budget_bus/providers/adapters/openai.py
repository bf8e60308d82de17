"""OpenAI: chat completions, responses, embeddings, realtime."""

from __future__ import annotations

from typing import ClassVar

from budget_bus.providers.base import BaseProvider
from budget_bus.providers.shapes import CHAT, EMBEDDINGS, REALTIME, RESPONSES, Shape


class OpenAI(BaseProvider):
    """Cached and audio tokens are inside of the input, reasoning and audio inside of the output."""

    name = "openai"
    shapes: ClassVar[tuple[Shape, ...]] = (EMBEDDINGS, CHAT, REALTIME, RESPONSES)
    unique_ids = True
