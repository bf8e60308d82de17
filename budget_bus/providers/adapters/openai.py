"""OpenAI: chat completions, responses, embeddings, images, realtime."""

from __future__ import annotations

from typing import ClassVar

from budget_bus.providers.base import BaseProvider
from budget_bus.providers.shapes import CHAT, EMBEDDINGS, IMAGES, REALTIME, RESPONSES, Shape


class OpenAI(BaseProvider):
    """Cached, audio and image tokens are inside of the input, reasoning, audio and images inside of the output."""

    name = "openai"
    shapes: ClassVar[tuple[Shape, ...]] = (EMBEDDINGS, IMAGES, CHAT, REALTIME, RESPONSES)
    unique_ids = True
