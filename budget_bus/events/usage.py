"""usage.recorded: one finished or aborted model call."""

from __future__ import annotations

import hashlib
from typing import Self
from uuid import UUID

from pydantic import Field, model_validator

from budget_bus.events.fields import Amount, Instant, Name, ServiceTier, Tags, Text, TokenCount, WireModel, wrong_field


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
        for side in ("input", "output"):
            if getattr(self, f"{side}_tokens") is None and getattr(self, f"{side}_text") is None:
                raise wrong_field(f"{side}_tokens", f"is required (or {side}_text, to have its tokens counted)")
        if self.input_tokens is not None:
            cached = self.cache_read_input_tokens + self.cache_creation_input_tokens
            if cached > self.input_tokens:
                raise wrong_field(
                    "cache_read_input_tokens",
                    f"with cache_creation_input_tokens ({cached}) must not exceed input_tokens ({self.input_tokens}), "
                    "which includes them",
                )
            if self.input_audio_tokens > self.input_tokens:
                raise wrong_field("input_audio_tokens", "must not exceed input_tokens, which includes them")
        if self.output_tokens is not None:
            parts = self.reasoning_output_tokens + self.output_audio_tokens
            if parts > self.output_tokens:
                raise wrong_field(
                    "reasoning_output_tokens",
                    f"with output_audio_tokens ({parts}) must not exceed output_tokens ({self.output_tokens}), "
                    "which includes them",
                )
        return self

    def digest(self) -> bytes:
        """16 bytes over what the caller said, without the id: equal for a duplicate, different for a conflict."""
        said = self.model_dump_json(exclude={"event_id"}, exclude_defaults=True)
        return hashlib.blake2b(said.encode(), digest_size=16).digest()
