"""A question -> how many tokens and how much money a hold must set aside: an upper bound, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from budget_bus.events.checks import CheckRequested
from budget_bus.money import Nanos
from budget_bus.policy.pricing import PriceStatus, upper_bound
from budget_bus.providers.prices import PriceBook, max_output_tokens
from budget_bus.providers.tokens import count_tokens


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a call may use at most. `cost` None: the model is unpriced. `source` says how the tokens were found."""

    tokens: int
    cost: Nanos | None
    currency: str
    price_status: PriceStatus
    source: str


@dataclass(frozen=True, slots=True)
class Estimator:
    """Prices and the operator's assumptions; pure but for the price book's memory."""

    prices: PriceBook
    use_fallback_price: bool
    default_max_output_tokens: int

    def estimate(self, asked: CheckRequested, provider: str, *, at: datetime) -> Estimate:
        """Bound the call that *asked* is about, priced at *at*."""
        total, input_tokens, output_tokens, source = self._tokens(asked, provider)
        find = self.prices.price_or_fallback if self.use_fallback_price else self.prices.price
        price = find(provider, asked.model, at, asked.service_tier)
        if price is None:
            return Estimate(total, None, "USD", PriceStatus.UNPRICED, source)
        # A text holds no audio; of bare counts nothing is known unless the caller says so.
        audio = asked.input_text is None and asked.input_audio_tokens != 0
        cost = upper_bound(
            price, input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=total, audio=audio
        )
        return Estimate(total, cost, price.currency, price.status, source)

    def _tokens(self, asked: CheckRequested, provider: str) -> tuple[int, int | None, int | None, str]:
        if asked.estimated_tokens is not None:
            return asked.estimated_tokens, None, None, "estimated_tokens"
        if asked.input_tokens is not None:
            input_tokens, source = asked.input_tokens, "input_tokens"
        else:
            counted = count_tokens(provider, asked.model, asked.input_text or "")
            input_tokens, source = counted.tokens_upper, f"input_text ({counted.source})"
        if asked.max_output_tokens is not None:
            output_tokens, source = asked.max_output_tokens, f"{source}, max_output_tokens"
        else:
            ceiling = max_output_tokens(provider, asked.model)
            output_tokens = min(self.default_max_output_tokens, ceiling or self.default_max_output_tokens)
            source = f"{source}, default_max_output_tokens"
        return input_tokens + output_tokens, input_tokens, output_tokens, source
