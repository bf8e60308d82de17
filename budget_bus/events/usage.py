"""usage.recorded: one finished or aborted model call."""

from __future__ import annotations

import hashlib
from typing import Self
from uuid import UUID

from pydantic import Field, model_validator

from budget_bus.errors import FieldError, Rejected
from budget_bus.events.fields import Amount, Instant, Name, ServiceTier, Tags, Text, TokenCount, WireModel, wrong_field

# The subsets of a side that are disjoint, so that their sum must fit in it.
_SUBSETS: dict[str, tuple[tuple[str, ...], ...]] = {
    "input": (("cache_read_input_tokens", "cache_creation_input_tokens"), ("input_audio_tokens",)),
    "output": (("reasoning_output_tokens", "output_audio_tokens"),),
}


_ALL_SUBSETS = frozenset(name for subsets in _SUBSETS.values() for names in subsets for name in names)
_NOT_SAID = {"event_id"}


class UsageRecorded(WireModel):
    """
    One model call and what it used. Tokens are OpenTelemetry's words: `input_tokens` includes cached and audio
    tokens, `output_tokens` includes reasoning; the others are subsets. Texts may stand in for counts.

    Without `event_id` one is derived from the record, without `occurred_at` the record's time is taken.
    `request_id` names the hold that this call settles.
    """

    event_id: UUID | None = None
    occurred_at: Instant | None = None
    component: Name
    provider: Name
    model: Name
    input_tokens: TokenCount | None = None
    output_tokens: TokenCount | None = None
    input_text: Text | None = None
    output_text: Text | None = None
    cache_read_input_tokens: TokenCount = 0
    cache_creation_input_tokens: TokenCount = 0
    reasoning_output_tokens: TokenCount = 0
    input_audio_tokens: TokenCount = 0
    output_audio_tokens: TokenCount = 0
    service_tier: ServiceTier = "standard"
    request_id: UUID | None = None
    task_type: Name | None = None
    context_id: Name | None = None
    user: Name | None = None
    operation_id: Name | None = None
    tags: Tags = Field(default_factory=dict)
    reported_cost: Amount | None = None
    estimated: bool = False

    @model_validator(mode="after")
    def _counts_add_up(self) -> Self:
        counted = self.input_tokens is not None and self.output_tokens is not None
        if counted and self.model_fields_set.isdisjoint(_ALL_SUBSETS):
            return self  # as most events are
        for side in ("input", "output"):
            if getattr(self, f"{side}_tokens") is None and getattr(self, f"{side}_text") is None:
                raise wrong_field(f"{side}_tokens", f"is required (or {side}_text, to have its tokens counted)")
        for side in ("input", "output"):
            if (count := getattr(self, f"{side}_tokens")) is not None:
                name, message = self._excess(side, count)
                if name:
                    raise wrong_field(name, message)
        return self

    def check_subsets(self, side: str, count: int) -> None:
        """
        Check the subsets of *side* against a *count* that was made of its text.

        Raises:
            Rejected: a subset is larger than what includes it.
        """
        name, message = self._excess(side, count)
        if name:
            raise Rejected("invalid input", [FieldError(name, message)])

    def _excess(self, side: str, count: int) -> tuple[str, str]:
        for names in _SUBSETS[side]:
            total = sum(getattr(self, name) for name in names)
            if total > count:
                both = f"with {names[1]} ({total}) " if len(names) > 1 else ""
                return names[0], f"{both}must not exceed {side}_tokens ({count}), which includes them"
        return "", ""

    def digest(self) -> bytes:
        """16 bytes over what the caller said, without the id: equal for a duplicate, different for a conflict."""
        said = self.model_dump_json(exclude=_NOT_SAID, exclude_defaults=True)
        return hashlib.blake2b(said.encode(), digest_size=16).digest()
