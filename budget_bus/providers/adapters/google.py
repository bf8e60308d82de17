"""Google: Gemini's generateContent, its endpoint in OpenAI's form, and Anthropic's models on Vertex AI."""

from __future__ import annotations

from budget_bus.providers.base import BaseProvider
from budget_bus.providers.shapes import CHAT, GENERATE, MESSAGES


class Google(BaseProvider):
    """Thoughts are outside of the candidates and tool use outside of the prompt; what was cached is inside of it."""

    name = "google"
    # With the values of OpenTelemetry's gen_ai.provider.name: gcp.gemini, gcp.vertex_ai, gcp.gen_ai.
    aliases = (
        "gcp.gemini",
        "gcp.gen_ai",
        "gcp.vertex_ai",
        "gemini",
        "google-ai",
        "google-gemini",
        "google-genai",
        "google-vertex",
        "google-vertex-ai",
        "vertex",
        "vertex-ai",
    )
    shapes = (GENERATE, MESSAGES, CHAT)
    unique_ids = True
