"""A second source of prices: the JSON table that comes with litellm, in our names and in picos per token class."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from budget_bus.errors import ConfigError
from budget_bus.money import PicosPerToken

# Their word for a provider -> our stored name and the prefixes that their keys put before the model's own name.
_PROVIDERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "anthropic": ("anthropic", ("anthropic/",)),
    "azure": ("azure", ("azure/",)),
    "azure_ai": ("azure", ("azure_ai/",)),
    "azure_text": ("azure", ("azure/",)),
    "baseten": ("baseten", ("baseten/",)),
    "bedrock": ("bedrock", ("bedrock/",)),
    "bedrock_converse": ("bedrock", ("bedrock/",)),
    "cerebras": ("cerebras", ("cerebras/",)),
    "cloudflare": ("cloudflare", ("cloudflare/",)),
    "codestral": ("mistral", ("codestral/",)),
    "cohere": ("cohere", ("cohere/",)),
    "cohere_chat": ("cohere", ("cohere_chat/", "cohere/")),
    "databricks": ("databricks", ("databricks/",)),
    "deepseek": ("deepseek", ("deepseek/",)),
    "fireworks_ai": ("fireworks", ("fireworks_ai/",)),
    "gemini": ("google", ("gemini/",)),
    "github_copilot": ("github-copilot", ("github_copilot/",)),
    "groq": ("groq", ("groq/",)),
    "minimax": ("minimax", ("minimax/",)),
    "mistral": ("mistral", ("mistral/",)),
    "moonshot": ("moonshotai", ("moonshot/",)),
    "novita": ("novita", ("novita/",)),
    "openai": ("openai", ("openai/",)),
    "openrouter": ("openrouter", ("openrouter/",)),
    "ovhcloud": ("ovhcloud", ("ovhcloud/",)),
    "perplexity": ("perplexity", ("perplexity/",)),
    "text-completion-openai": ("openai", ("text-completion-openai/",)),
    "together_ai": ("together", ("together_ai/",)),
    "typesafe": ("typesafe", ("typesafe/",)),
    "voyage": ("voyageai", ("voyage/",)),
    "xai": ("xai", ("xai/",)),
    "zai": ("zai", ("zai/",)),
}
# vertex_ai, vertex_ai-anthropic_models and the like: one provider in our data.
_VERTEX: Final = "vertex_ai"

_CLASSES: Final[Mapping[str, str]] = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_creation",
    "cache_creation_input_token_cost_above_1hr": "cache_creation_1h",
    "output_cost_per_reasoning_token": "reasoning_output",
    "input_cost_per_audio_token": "input_audio",
    "output_cost_per_audio_token": "output_audio",
}
_TIERS: Final[Mapping[str, str]] = {"batches": "batch", "flex": "flex", "priority": "priority"}
_FIELD: Final = re.compile(
    r"(?P<field>" + "|".join(sorted(_CLASSES, key=len, reverse=True)) + r")"
    r"(?:_above_(?P<thousands>\d+)k_tokens)?(?:_(?P<tier>batches|flex|priority))?"
)
# A key such as azure/eu/gpt-4o, bedrock/us-gov-west-1/... or eu.amazon.nova-pro-v1:0: a price of one region.
_REGION: Final = re.compile(r"(?:eu|us|global|global-standard|[a-z]{2}(?:-[a-z]+)+-\d)/|(?:us|us-gov|eu|apac|jp|au)\.")


@dataclass(frozen=True, slots=True)
class SecondPrice:
    """
    One row of the second table in our words.

    *figures* are picos per token by class, as `comparison.figures_of` names them. *ends* is the day on which the
    provider takes the model away, if the table says so. *kind* is what the model is for ("chat", "embedding").
    """

    key: str
    provider: str
    model: str
    figures: Mapping[str, PicosPerToken]
    regional: bool
    kind: str
    ends: date | None


def read_second_table(text: str | bytes) -> list[SecondPrice]:
    """
    All rows of providers that we know by name and that have a price per token.

    Numbers are read as decimals and rounded to whole picos, half to even; no float is made on the way.

    Raises:
        ConfigError: the text is not the JSON object of objects that the table is.
    """
    try:
        rows = json.loads(text, parse_float=Decimal)
    except ValueError as bad:
        raise ConfigError(f"second price table: not JSON ({bad}); give the file that is in litellm's wheel") from None
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise ConfigError("second price table: not an object of models; give the file that is in litellm's wheel")
    return list(_known(rows))


def _known(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[SecondPrice]:
    for key, row in rows.items():
        named = _named(key, str(row.get("litellm_provider")))
        figures = _figures(row)
        if named is None or not figures:
            continue
        provider, model = named
        yield SecondPrice(key, provider, model, figures, bool(_REGION.match(model)), str(row.get("mode")), _ends(row))


def _named(key: str, theirs: str) -> tuple[str, str] | None:
    """Our provider and the model's own name; None for a provider that our data does not have."""
    prefixes: tuple[str, ...]
    if theirs.startswith(_VERTEX):
        provider, prefixes = "google", (f"{_VERTEX}/",)
    elif theirs in _PROVIDERS:
        provider, prefixes = _PROVIDERS[theirs]
    else:
        return None
    for prefix in prefixes:
        if key.startswith(prefix):
            return provider, key[len(prefix) :]
    return provider, key


def _figures(row: Mapping[str, Any]) -> dict[str, PicosPerToken]:
    figures = {}
    for field, value in row.items():
        found = _FIELD.fullmatch(field)
        if found is None or isinstance(value, bool) or not isinstance(value, Decimal | int):
            continue
        tier = _TIERS.get(found["tier"] or "")
        above = found["thousands"]
        name = _CLASSES[found["field"]] + (f" above {above}k" if above else "")
        figures[f"{tier} {name}" if tier else name] = _picos(Decimal(value))
    return figures


def _picos(per_token: Decimal) -> PicosPerToken:
    return PicosPerToken(int((per_token * 10**12).to_integral_value(ROUND_HALF_EVEN)))


def _ends(row: Mapping[str, Any]) -> date | None:
    try:
        return date.fromisoformat(str(row.get("deprecation_date")))
    except ValueError:
        return None
