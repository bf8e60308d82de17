"""Servers of models on the platform's own machines, whose tokens cost nothing. All speak OpenAI's forms."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from budget_bus.policy.pricing import Price
from budget_bus.providers.base import BaseProvider, free_price


class LocalProvider(BaseProvider):
    """A server of our own; every call that `is_local` is free."""

    def is_local(self, model: str) -> bool:
        return True

    def price(self, model: str, at: datetime, service_tier: str) -> Price | None:
        return free_price("local model") if self.is_local(model) else None


class LlamaCpp(LocalProvider):
    """llama.cpp's server."""

    name = "llama.cpp"


class Llamafile(LocalProvider):
    """llamafile."""

    name = "llamafile"


class LMStudio(LocalProvider):
    """LM Studio."""

    name = "lmstudio"


class LocalAI(LocalProvider):
    """LocalAI."""

    name = "localai"


class Local(LocalProvider):
    """Whatever else runs here."""

    name = "local"


LOCAL: Final = (LlamaCpp(), Llamafile(), LMStudio(), LocalAI(), Local())
