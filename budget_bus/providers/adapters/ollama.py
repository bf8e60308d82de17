"""Ollama: its own form and OpenAI's; local, but for the models that it hosts itself."""

from __future__ import annotations

import re

from budget_bus.providers.adapters.local import LocalProvider
from budget_bus.providers.shapes import CHAT, OLLAMA, RESPONSES

_CLOUD_TAG = re.compile(r"[:-]cloud$")


class Ollama(LocalProvider):
    """The counts are `prompt_eval_count` and `eval_count` of the chunk that is done."""

    name = "ollama"
    shapes = (OLLAMA, CHAT, RESPONSES)

    def is_local(self, model: str) -> bool:
        """It also relays to hosted models, tagged `-cloud` or `:cloud` (https://docs.ollama.com/cloud): not local."""
        return not _CLOUD_TAG.search(model.strip().lower())
