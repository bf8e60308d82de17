"""usage.recorded: one finished or aborted model call."""

from __future__ import annotations

import hashlib
from typing import Self
from uuid import UUID

from pydantic import Field, model_validator

from budget_bus.errors import FieldError, Rejected
from budget_bus.events.fields import Amount, Instant, Name, ServiceTier, Tags, Text, TokenCount, WireModel, wrong_field

_NOT_SAID = {"event_id"}


class UsageRecorded(WireModel):
    """
    One model call and what it used. Tokens are OpenTelemetry's words: `input_tokens` includes cached, audio
    and image tokens, `output_tokens` includes reasoning, audio and images; the others are subsets.
    `cache_creation_1h_input_tokens` is the part of `cache_creation_input_tokens` that is kept for an hour. Texts may
    stand in for counts.

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
    cache_creation_1h_input_tokens: TokenCount = 0
    input_image_tokens: TokenCount = 0
    output_image_tokens: TokenCount = 0
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
        sides = (("input", self.input_tokens, self.input_text), ("output", self.output_tokens, self.output_text))
        for side, count, text in sides:
            if count is None and text is None:
                raise wrong_field(f"{side}_tokens", f"is required (or {side}_text, to have its tokens counted)")
        for side, count, _ in sides:
            if count is not None:
                name, message = self._excess(side, count)
                if name:
                    raise wrong_field(name, message)
        if self.cache_creation_1h_input_tokens > self.cache_creation_input_tokens:
            message = (
                f"must not exceed cache_creation_input_tokens ({self.cache_creation_input_tokens}), which includes them"
            )
            raise wrong_field("cache_creation_1h_input_tokens", message)
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
        """The field that is too large for its side's *count* and why, or two empty texts. Disjoint subsets add up."""
        subsets: tuple[tuple[str, str, int], ...]
        if side == "input":
            cached = self.cache_read_input_tokens + self.cache_creation_input_tokens
            subsets = (
                ("cache_read_input_tokens", "cache_creation_input_tokens", cached),
                ("input_audio_tokens", "input_image_tokens", self.input_audio_tokens + self.input_image_tokens),
            )
        else:
            parts = self.reasoning_output_tokens + self.output_audio_tokens + self.output_image_tokens
            subsets = (("reasoning_output_tokens", "output_audio_tokens and output_image_tokens", parts),)
        for name, other, total in subsets:
            if total > count:
                both = f"with {other} ({total}) " if other else ""
                return name, f"{both}must not exceed {side}_tokens ({count}), which includes them"
        return "", ""

    def digest(self) -> bytes:
        """16 bytes over what the caller said, without the id: equal for a duplicate, different for a conflict."""
        said = self.model_dump_json(exclude=_NOT_SAID, exclude_defaults=True)
        return hashlib.blake2b(said.encode(), digest_size=16).digest()
