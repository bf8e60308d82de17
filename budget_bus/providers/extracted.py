"""What a raw response says of its call, in our token classes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from budget_bus.policy.pricing import Tokens


@dataclass(frozen=True, slots=True)
class Extracted:
    """
    Usage of one call. `tokens` holds to the rules of `Tokens`: `input` includes what was cached, spoken and drawn,
    `output` what was reasoned, spoken and drawn, and no subset is larger than what includes it.

    `estimated` says that the provider's own numbers do not settle them; `notes` say why, in whole sentences.
    `reported_cost` is what the provider says that it charged, in USD. None everywhere else: it does not say.
    """

    tokens: Tokens
    model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    reported_cost: Decimal | None = None
    estimated: bool = False
    notes: tuple[str, ...] = ()
