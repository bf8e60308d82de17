"""The counts of one usage object, checked and named as ours; what they include is not judged here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import Provider, Usage

from budget_bus.errors import FieldError, Rejected
from budget_bus.providers.gathering import Body
from budget_bus.providers.shapes import Shape

_COUNT = re.compile(r"([tT]okens|[tT]okenCount|eval_count|eval_cached_count)$")


@dataclass(slots=True)
class Counts:
    """
    As the response's form has them: `input` with what its form keeps apart from it added, `output` too.

    `missing` names a count that the form may leave out and that counts as 0 for now.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_creation: int = 0
    cache_creation_1h: int = 0
    reasoning: int = 0
    input_audio: int = 0
    output_audio: int = 0
    input_image: int = 0
    output_image: int = 0
    tool_use: int = 0
    missing: str = ""


def clean(usage: Body, root: str) -> dict[str, Any]:
    """
    A copy of *usage* with whole numbers for all counts in it, at any depth, and without what is null.

    Raises:
        Rejected: names the count that is no whole number from 0 on.
    """
    return {key: _clean(value, f"{root}.{key}".lstrip("."), key) for key, value in usage.items() if value is not None}


def _clean(value: Any, path: str, key: str) -> Any:
    if isinstance(value, Mapping):
        return clean(value, path)
    if isinstance(value, list):
        return [_clean(item, f"{path}.{index}", "") for index, item in enumerate(value)]
    if not _COUNT.search(key):
        return value
    whole = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18
    if not whole or value < 0 or int(value) != value:
        raise Rejected("impossible usage", [FieldError(path, f"must be a whole number from 0 on, not {value!r}")])
    return int(value)


def read_counts(shape: Shape, body: Body, usage: Body) -> Counts:
    """
    The counts of a clean *usage*.

    Raises:
        Rejected: a count is missing without which nothing can be said.
    """
    if shape.library is None:
        return _plain(shape, usage)
    counts = _by_library(shape, usage, *shape.library)
    if shape.name == "chat":
        _chat_dialects(counts, usage)
    if shape.name == "generate":
        _require(usage, "promptTokenCount", shape.root)
        if "totalTokenCount" not in usage and "thoughtsTokenCount" not in usage:
            _require(usage, "candidatesTokenCount", shape.root)
    return counts


def _by_library(shape: Shape, usage: Body, provider: str, flavour: str) -> Counts:
    body: Any = usage
    for step in reversed(shape.root.split(".")):
        body = {step: body}
    try:
        _, found = _listed(provider).extract_usage(body, api_flavor=flavour)
    except ValueError as error:
        raise Rejected("no usage", [FieldError(shape.root, f"cannot be read: {error}")]) from None
    five_minutes, hour = _of(found, "cache_write_5m_tokens"), _of(found, "cache_write_1h_tokens")
    written = _of(found, "cache_write_tokens")
    # Where only the parts are told, they are no more in the input than their sum would be.
    untold = max(0, five_minutes + hour - written)
    return Counts(
        input=_of(found, "input_tokens") + untold,
        output=_of(found, "output_tokens"),
        cache_read=_of(found, "cache_read_tokens"),
        cache_creation=written + untold,
        cache_creation_1h=hour,
        reasoning=_of(found, "output_reasoning_tokens"),
        input_audio=_of(found, "input_audio_tokens"),
        output_audio=_of(found, "output_audio_tokens"),
        input_image=_of(found, "input_image_tokens"),
        output_image=_of(found, "output_image_tokens"),
        tool_use=_of(found, "input_tool_tokens"),
    )


def _chat_dialects(counts: Counts, usage: Body) -> None:
    """What providers of OpenAI's chat form call by other names, which the library does not look for."""
    # DeepSeek before it had prompt_tokens_details; Moonshot; gateways in front of Anthropic.
    reads = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
    counts.cache_read = counts.cache_read or _first(usage, *reads)
    counts.cache_creation = counts.cache_creation or _first(usage, "cache_creation_input_tokens")
    # Perplexity and xAI have told it beside the details.
    counts.reasoning = counts.reasoning or _first(usage, "reasoning_tokens")


def _plain(shape: Shape, usage: Body) -> Counts:
    input_name, output_name = shape.plain
    cached = _first(usage, "prompt_eval_cached_count")
    if input_name in usage and output_name in usage:
        return Counts(input=usage[input_name], output=usage[output_name], cache_read=cached)
    # Ollama leaves a count out that is zero: a prompt that it still has in memory, an answer without a token.
    missing = input_name if output_name in usage else output_name
    _require(usage, input_name if missing == output_name else output_name, "response")
    return Counts(input=usage.get(input_name, 0), output=usage.get(output_name, 0), cache_read=cached, missing=missing)


def _require(usage: Body, name: str, root: str) -> None:
    if name not in usage:
        raise Rejected("no usage", [FieldError(f"{root}.{name}", "is missing")])


def _first(usage: Body, *names: str) -> int:
    return next((value for name in names if isinstance(value := usage.get(name), int)), 0)


def _of(found: Usage, name: str) -> int:
    return int(getattr(found, name, None) or 0)


@lru_cache(maxsize=16)
def _listed(provider: str) -> Provider:
    return next(listed for listed in get_snapshot().providers if listed.id == provider)
