"""
The providers that come with the service, one module each; most are a few lines of facts.

What another package adds is an entry point of the group `budget_bus.providers` (see `registry.py`).
"""

from __future__ import annotations

from typing import Final

from budget_bus.providers.adapters.anthropic import Anthropic
from budget_bus.providers.adapters.azure import Azure
from budget_bus.providers.adapters.bedrock import Bedrock
from budget_bus.providers.adapters.compatible import COMPATIBLE
from budget_bus.providers.adapters.deepseek import DeepSeek
from budget_bus.providers.adapters.google import Google
from budget_bus.providers.adapters.groq import Groq
from budget_bus.providers.adapters.local import LOCAL
from budget_bus.providers.adapters.mistral import Mistral
from budget_bus.providers.adapters.ollama import Ollama
from budget_bus.providers.adapters.openai import OpenAI
from budget_bus.providers.adapters.openrouter import OpenRouter
from budget_bus.providers.adapters.xai import XAI
from budget_bus.providers.base import BaseProvider

BUILT_IN: Final[tuple[BaseProvider, ...]] = (
    OpenAI(),
    Anthropic(),
    Google(),
    Mistral(),
    DeepSeek(),
    XAI(),
    Groq(),
    Bedrock(),
    Azure(),
    OpenRouter(),
    Ollama(),
    *COMPATIBLE,
    *LOCAL,
)
