"""What a raw response says of its call, in our token classes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from budget_bus.policy.pricing import Tokens


@dataclass(frozen=True, slots=True)
class Extracted:
    """
    Usage of one call. `tokens` holds to the rules of `Tokens`: `input` includes what was cached and spoken, `output`
    what was reasoned and spoken, and no subset is larger than what includes it.

    `estimated` says that the provider's own numbers do not settle them; `notes` say why, in whole sentences.
    `cache_creation_1h` is the part of `tokens.cache_creation` that is kept for an hour, which some charge more for.
    `reported_cost` is what the provider says that it charged, in USD. None everywhere else: it does not say.
    """

    tokens: Tokens
    model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    reported_cost: Decimal | None = None
    cache_creation_1h: int = 0
    estimated: bool = False
    notes: tuple[str, ...] = ()
