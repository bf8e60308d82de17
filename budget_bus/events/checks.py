"""check.requested and check.response: may this call be made?"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from budget_bus.events.fields import (
    Instant,
    Name,
    ServiceTier,
    Tags,
    Text,
    TokenCount,
    WireModel,
    whole_number,
    wrong_field,
)


class CheckRequested(WireModel):
    """
    A question before a call. Exactly one estimate: `estimated_tokens` (input and output together), or
    `input_tokens`, or `input_text`, the latter two with an optional `max_output_tokens`.

    A question read after its `deadline` is answered `expired` and places no hold. With `lease_calls` it asks for a
    hold of up to that many such calls at once, which usage with its `request_id` settles bit by bit.

    The estimate is a bound, so every token is taken at the dearest class. Of `input_audio_tokens`,
    `input_image_tokens` and `cache_creation_1h_input_tokens`, one that is stated as 0 says that the call has none.
    """

    request_id: UUID
    requested_at: Instant | None = None
    deadline: Instant | None = None
    component: Name
    provider: Name
    model: Name
    estimated_tokens: TokenCount | None = None
    input_tokens: TokenCount | None = None
    input_text: Text | None = None
    max_output_tokens: TokenCount | None = None
    input_audio_tokens: TokenCount | None = None
    input_image_tokens: TokenCount | None = None
    cache_creation_1h_input_tokens: TokenCount | None = None
    service_tier: ServiceTier = "standard"
    hold: bool = True
    hold_ttl_s: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=86_400)] | None = None
    task_type: Name | None = None
    context_id: Name | None = None
    user: Name | None = None
    tags: Tags = Field(default_factory=dict)
    priority: Literal["normal", "critical"] = "normal"
    lease_calls: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _a_lease_is_a_hold(self) -> Self:
        if self.lease_calls is not None and not self.hold:
            raise wrong_field("lease_calls", "goes with hold: a lease is a hold")
        return self

    @model_validator(mode="after")
    def _one_estimate(self) -> Self:
        given = [n for n in ("estimated_tokens", "input_tokens", "input_text") if getattr(self, n) is not None]
        if len(given) != 1:
            named = " and ".join(given) or "none"
            raise wrong_field(
                given[-1] if given else "estimated_tokens",
                f"give exactly one of estimated_tokens, input_tokens, input_text (got {named})",
            )
        if self.estimated_tokens is not None and self.max_output_tokens is not None:
            raise wrong_field(
                "max_output_tokens", "goes with input_tokens or input_text; estimated_tokens is already the total"
            )
        return self

    def digest(self) -> bytes:
        """16 bytes over the question, without its id and times: the same id with another digest is a conflict."""
        asked = self.model_dump_json(exclude={"request_id", "requested_at", "deadline"}, exclude_defaults=True)
        return hashlib.blake2b(asked.encode(), digest_size=16).digest()


class HoldPlaced(BaseModel):
    """What an approved check set aside, in the currency of the estimate, and until when."""

    amount: str | None
    expires_at: datetime


class BudgetLine(BaseModel):
    """One budget that was considered, with its balance after the decision. Amounts are strings in the budget's unit."""

    budget_id: UUID
    name: str
    scope: dict[str, Any]
    period: str
    unit: Literal["cost", "tokens", "requests"]
    currency: str | None
    policy: str
    limit: str
    spent: str
    held: str
    unconfirmed: str
    available: str
    window_start: datetime
    window_end: datetime | None
    would_exceed: bool
    binding: bool
    shadow: bool


class Alternative(BaseModel):
    """A cheaper model that would fit."""

    provider: str
    model: str
    estimated_cost: str


class Suggestions(BaseModel):
    """What would fit instead."""

    max_output_tokens: int | None = None
    alternatives: list[Alternative] = Field(default_factory=list)


class LeaseGranted(BaseModel):
    """
    What a lease has set aside: for `calls` calls, with `tokens` and `cost` in the decision's currency (None: unpriced).

    A call costs at most its tokens at these rates (picos, 1e-12 of the currency, per token) plus the request's picos.
    """

    calls: int
    tokens: int
    cost: str | None
    input_picos: int
    output_picos: int
    request_picos: int


class CheckResponse(BaseModel):
    """
    The decision and its explanation. A denial carries the platform's old keys too (`policy_type` to `tier`).
    `passed_budgets` would have denied the call, had it not been critical.
    """

    request_id: UUID
    allowed: bool
    action: Literal["allow", "warn", "degrade", "deny"]
    reason: str | None = None
    warnings: list[str] = Field(default_factory=list)
    estimated_tokens: int
    estimated_cost: str | None
    currency: str
    price_status: Literal["priced", "free", "unpriced", "fallback"]
    estimate_source: str
    hold: HoldPlaced | None = None
    budgets: list[BudgetLine] = Field(default_factory=list)
    binding_budget: UUID | None = None
    resets_at: datetime | None = None
    retry_after_s: int | None = None
    suggestions: Suggestions = Field(default_factory=Suggestions)
    passed_budgets: list[UUID] = Field(default_factory=list)
    lease: LeaseGranted | None = None
    stale: bool = False
    decided_at: datetime
    tier: str
    policy_type: str | None = None
    limit: str | None = None
    usage: str | None = None
    estimated_additional: str | None = None
    period: str | None = None
