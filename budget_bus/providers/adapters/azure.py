"""Azure: OpenAI's forms, and Anthropic's messages in its foundry."""

from __future__ import annotations

from budget_bus.providers.adapters.openai import OpenAI
from budget_bus.providers.shapes import MESSAGES


class Azure(OpenAI):
    """As OpenAI."""

    name = "azure"
    # With the values of OpenTelemetry's gen_ai.provider.name: azure.ai.openai, azure.ai.inference, az.ai.openai.
    aliases = ("az.ai.inference", "az.ai.openai", "azure-ai", "azure.ai.inference", "azure.ai.openai", "azure-openai")
    shapes = (MESSAGES, *OpenAI.shapes)
