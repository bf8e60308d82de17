"""Groq: OpenAI's chat form; a stream's usage is under `x_groq`."""

from __future__ import annotations

from budget_bus.providers.base import BaseProvider


class Groq(BaseProvider):
    """Reasoning is inside of the completion, what was cached inside of the prompt."""

    name = "groq"
    aliases = ("groqcloud",)
    unique_ids = True
