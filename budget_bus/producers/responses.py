"""A provider's raw response -> the fields of `usage.recorded` that it settles, for `bus.record` and `call.settle`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final
from uuid import UUID, uuid5

from budget_bus.errors import FieldError, Rejected
from budget_bus.providers.extracted import Extracted
from budget_bus.providers.registry import provider_of

log = logging.getLogger(__name__)

_RESPONSES: Final = UUID("b6e3f0de-36a1-5d0c-8f0b-9f1f6b5a7c42")  # the name space of ids derived from responses
_IN_ID: Final = 7  # how many of the counts: those that there were when the first ids were derived
_NANO: Final = Decimal("1e-9")


def usage_fields(
    provider: str, model: str | None, response: Mapping[str, Any] | Iterable[Any], **fields: Any
) -> dict[str, Any]:
    """
    What *response*, a JSON object or the list of all chunks of a stream, says of its call, with *fields* over it:
    `await bus.record(component="rhetor", **usage_fields("openai", "gpt-4o", response))`.

    *model* is the one that was asked for, by which the call's hold and budgets are found; None takes the response's.
    Where the provider's responses have ids of their own, `event_id` is derived from them, so that one that is recorded
    twice is counted once. What the provider's numbers do not settle is `estimated`, with the reason in the log.

    Raises:
        Rejected: names the field of the response that is missing or impossible; record the texts instead.
    """
    adapter = provider_of(provider)
    found = adapter.usage(response, model)
    name = model or found.model
    if name is None:
        raise Rejected("invalid response", [FieldError("model", "is neither given nor in the response")])
    if found.estimated:
        log.warning("usage of %s %s is estimated: %s", adapter.name, name, "; ".join(found.notes))
    said: dict[str, Any] = {"provider": provider, "model": name, **_counts(found)}
    if found.service_tier not in (None, "standard"):
        said["service_tier"] = found.service_tier
    if found.reported_cost is not None:
        amount = found.reported_cost.quantize(_NANO, ROUND_HALF_EVEN)
        said["reported_cost"] = {"amount": f"{amount:f}", "currency": "USD"}
    if found.estimated:
        said["estimated"] = True
    if adapter.unique_ids and found.response_id:
        said["event_id"] = _event_id(adapter.name, found)
    return {**said, **fields}


def _counts(found: Extracted) -> dict[str, int]:
    tokens = found.tokens
    subsets = {
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation_input_tokens": tokens.cache_creation,
        "reasoning_output_tokens": tokens.reasoning_output,
        "input_audio_tokens": tokens.input_audio,
        "output_audio_tokens": tokens.output_audio,
        "cache_creation_1h_input_tokens": tokens.cache_creation_1h,
        "input_image_tokens": tokens.input_image,
        "output_image_tokens": tokens.output_image,
    }
    said = {name: count for name, count in subsets.items() if count}
    return {"input_tokens": tokens.input, "output_tokens": tokens.output, **said}


def _event_id(provider: str, found: Extracted) -> UUID:
    # The counts are part of it: a server that gives every response the same id must not lose all but the first.
    return uuid5(_RESPONSES, f"{provider}/{found.response_id}/{'/'.join(map(str, found.tokens[:_IN_ID]))}")
