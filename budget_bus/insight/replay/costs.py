"""What a call of the past costs under a proposal: the price book's integers, by the time of the call."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from budget_bus.errors import FieldError, Rejected
from budget_bus.insight.replay.proposal import Caching, Proposal
from budget_bus.policy.pricing import Price, Tokens, cost_of
from budget_bus.policy.scope import Call
from budget_bus.providers.own import OwnPrices
from budget_bus.providers.prices import PriceBook


class Used(NamedTuple):
    """One event: the call, its service tier and time, its tokens, and its cost in nanos, None while unpriced."""

    call: Call
    service_tier: str
    at: datetime
    tokens: Tokens
    cost: int | None
    currency: str


@dataclass(frozen=True, slots=True)
class Costing:
    """Changes calls as *proposal* says. What it does not touch costs what was booked, whatever prices say today."""

    proposal: Proposal
    prices: PriceBook
    _proposed: OwnPrices = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_proposed", OwnPrices(self.proposal.prices))

    def apply(self, used: Used) -> Used:
        """
        *used* as it would have been.

        Raises:
            Rejected: it would go to a model that has no price.
        """
        changed = self._changed(used)
        price = self._price(changed)
        if price is None and changed is used:
            return used
        if price is None:
            price = self.prices.price(changed.call.provider, changed.call.model, used.at, changed.service_tier)
        if price is None:
            return self._unpriced(used, changed)
        return changed._replace(cost=cost_of(changed.tokens, price).total, currency=price.currency)

    def price(self, call: Call, service_tier: str, at: datetime) -> Price | None:
        """What a call would be priced at: by the proposal, else by the book."""
        proposed = self._proposed.find(call.provider, call.model, at, service_tier)
        return proposed.price if proposed else self.prices.price(call.provider, call.model, at, service_tier)

    def proposes(self, call: Call, service_tier: str, at: datetime) -> bool:
        """Whether the proposal has a price for *call*."""
        return self._proposed.find(call.provider, call.model, at, service_tier) is not None

    def target(self, call: Call, service_tier: str) -> tuple[Call, str]:
        """Where *call* goes, and in which service tier."""
        swap = next((swap for swap in self.proposal.swaps if swap.calls.admits(call)), None)
        tier = next((change.service_tier for change in self.proposal.tiers if change.calls.admits(call)), service_tier)
        return (call._replace(provider=swap.provider, model=swap.model) if swap else call), tier

    def _changed(self, used: Used) -> Used:
        call, tier = self.target(used.call, used.service_tier)
        caching = next((one for one in self.proposal.caching if one.calls.admits(used.call)), None)
        tokens = _cached(used.tokens, caching) if caching else used.tokens
        if (call, tier, tokens) == (used.call, used.service_tier, used.tokens):
            return used
        return used._replace(call=call, service_tier=tier, tokens=tokens)

    def _price(self, used: Used) -> Price | None:
        found = self._proposed.find(used.call.provider, used.call.model, used.at, used.service_tier)
        return found.price if found else None

    def _unpriced(self, used: Used, changed: Used) -> Used:
        if changed.call.model != used.call.model or changed.call.provider != used.call.provider:
            raise no_price(changed.call, used.at)
        return changed  # it was unpriced before, and neither its tier nor a cache gives it a price


def no_price(call: Call, at: datetime) -> Rejected:
    """A swap to a model without a price says nothing of cost."""
    message = f"{call.provider}/{call.model} has no price at {at.isoformat()}; set one, or propose one with it"
    return Rejected("invalid proposal", [FieldError("swaps", message)])


def _cached(tokens: Tokens, caching: Caching) -> Tokens:
    plain = max(0, tokens.input - tokens.cache_read - tokens.cache_creation - tokens.input_audio - tokens.input_image)
    return tokens._replace(
        cache_read=tokens.cache_read + plain * caching.read_percent // 100,
        cache_creation=tokens.cache_creation + plain * caching.write_percent // 100,
    )
