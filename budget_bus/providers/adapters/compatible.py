"""Providers of which no more is known than that they speak OpenAI's forms, and all that are not known at all."""

from __future__ import annotations

from typing import Final

from budget_bus.providers.base import BaseProvider
from budget_bus.providers.shapes import CHAT, CONVERSE, EMBEDDINGS, GENERATE, MESSAGES, OLLAMA, RESPONSES


class Compatible(BaseProvider):
    """A remote provider in OpenAI's forms; its response ids are not known to be unique."""

    shapes = (EMBEDDINGS, CHAT, RESPONSES)


class Fireworks(Compatible):
    """Fireworks AI."""

    name = "fireworks"
    aliases = ("fireworks-ai",)


class Moonshot(Compatible):
    """Moonshot AI (Kimi); a stream's usage is in its last choice."""

    name = "moonshotai"
    aliases = ("moonshot",)


class Perplexity(Compatible):
    """Perplexity."""

    name = "perplexity"
    aliases = ("perplexity-ai",)


class Together(Compatible):
    """Together AI."""

    name = "together"
    aliases = ("together-ai",)


class Voyage(Compatible):
    """Voyage AI."""

    name = "voyageai"
    aliases = ("voyage",)


class Watsonx(Compatible):
    """IBM watsonx.ai, as OpenTelemetry's gen_ai.provider.name has it: ibm.watsonx.ai."""

    name = "watsonx"
    aliases = ("ibm.watsonx.ai",)


class Unknown(BaseProvider):
    """A provider without an adapter: read by whichever form its response has."""

    shapes = (MESSAGES, GENERATE, EMBEDDINGS, CHAT, RESPONSES, OLLAMA, CONVERSE)

    def __init__(self, name: str) -> None:
        self.name = name


COMPATIBLE: Final = (Fireworks(), Moonshot(), Perplexity(), Together(), Voyage(), Watsonx())
