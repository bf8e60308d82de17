"""A question -> how many tokens and how much money a hold must set aside: an upper bound, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from budget_bus.consumers.learning import Outputs
from budget_bus.events.checks import CheckRequested
from budget_bus.money import PICOS_PER_NANO, Nanos
from budget_bus.policy.pricing import Price, PriceStatus, Without, upper_bound
from budget_bus.providers.names import canonical_provider
from budget_bus.providers.prices import PriceBook, context_window, max_output_tokens
from budget_bus.providers.siblings import converses, siblings
from budget_bus.providers.tokens import TokenCount, Vocabulary, count_tokens, vocabulary_of


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    What a call may use at most. `cost` None: the model is unpriced. `source` says how the tokens were found.

    `input_tokens` and `output_tokens` are those of one call, None when only their sum is known.
    """

    tokens: int
    cost: Nanos | None
    currency: str
    price_status: PriceStatus
    source: str
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Counted(NamedTuple):
    """Tokens of one call, both parts None when only the sum is known, and where the numbers come from."""

    total: int
    input: int | None
    output: int | None
    source: str


_Counts = dict[Vocabulary, TokenCount]


@dataclass(frozen=True, slots=True)
class Estimator:
    """
    Prices and the operator's assumptions; pure but for the price book's memory and what `outputs` learns.

    Providers are given by their stored names, instants are aware. Without `max_output_tokens` the output is taken as
    the larger of the default and what `outputs` has learnt of the component and model, at most what the model can
    answer with. The last word of a source names it: `max_output_tokens`, `default_max_output_tokens`, `p99_output` or
    `model_maximum`. Only the first is a bound, the others are a guess.
    """

    prices: PriceBook
    use_fallback_price: bool
    default_max_output_tokens: int
    outputs: Outputs = field(default_factory=Outputs)

    def estimate(self, asked: CheckRequested, provider: str, *, at: datetime) -> Estimate:
        """Bound the call that *asked* is about, priced at *at*."""
        return self._bound(asked, provider, asked.model, self._count(asked, provider, asked.model, {}), at)

    def with_output(
        self, asked: CheckRequested, provider: str, output_tokens: int, *, at: datetime, input_tokens: int | None = None
    ) -> Estimate | None:
        """
        The same call with another max_output_tokens, or None for a bare `estimated_tokens`, whose input is unknown.

        *input_tokens* are those of an estimate of *asked*; without them its text is counted once more.
        """
        if asked.estimated_tokens is not None:
            return None
        if input_tokens is None:
            input_tokens, _ = _input(asked, provider, asked.model, {})
        counted = _Counted(input_tokens + output_tokens, input_tokens, output_tokens, "max_output_tokens")
        return self._bound(asked, provider, asked.model, counted, at)

    def elsewhere(self, asked: CheckRequested, provider: str, model: str, *, at: datetime) -> Estimate:
        """
        The same call to another model, perhaps of another provider; unpriced there, it has no cost.

        A text is counted as that model would, numbers stay as they were stated. An output that is not stated is taken
        as the larger of what is assumed of either model: so it is the same call that is compared, and a check of that
        model asks for no more than what is said here.
        """
        return self._bound(asked, provider, model, self._count_elsewhere(asked, provider, model, {}), at)

    def alternatives(
        self, asked: CheckRequested, provider: str, *, at: datetime, at_most: Nanos
    ) -> Iterator[tuple[str, Estimate]]:
        """
        The provider's other models for text that can take a call of this size for *at_most*, in no order.

        None when the call has audio or images, or when what was asked for is not known as a model for text.
        """
        if asked.input_audio_tokens or asked.input_image_tokens or not converses(provider, asked.model, at):
            return
        counts: _Counts = {}
        for model in siblings(provider, at):
            price = self._price(provider, model, at, asked.service_tier)
            if model == asked.model or price is None:
                continue
            counted = self._count_elsewhere(asked, provider, model, counts)
            # Where a budget is used up most are too dear, and whoever asks has its balances locked: a quick look first.
            if _least_picos(price, counted) > at_most * PICOS_PER_NANO:
                continue
            found = self._bound(asked, provider, model, counted, at)
            window = context_window(provider, model)
            needed = counted.total if counted.input is None else counted.input
            if found.cost is not None and found.cost <= at_most and (window is None or needed <= window):
                yield model, found

    def _count_elsewhere(self, asked: CheckRequested, provider: str, model: str, counts: _Counts) -> _Counted:
        counted = self._count(asked, provider, model, counts)
        if counted.input is None or counted.output is None or asked.max_output_tokens is not None:
            return counted
        assumed, _ = self._output(asked, canonical_provider(asked.provider), asked.model)
        output = _at_most(max(assumed, counted.output), max_output_tokens(provider, model))
        return counted._replace(total=counted.input + output, output=output)

    def _bound(self, asked: CheckRequested, provider: str, model: str, counted: _Counted, at: datetime) -> Estimate:
        total, input_tokens, output_tokens, source = counted
        price = self._price(provider, model, at, asked.service_tier)
        if price is None:
            return Estimate(total, None, "USD", PriceStatus.UNPRICED, source, input_tokens, output_tokens)
        cost = upper_bound(
            price, input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=total, without=without_of(asked)
        )
        return Estimate(total, cost, price.currency, price.status, source, input_tokens, output_tokens)

    def _price(self, provider: str, model: str, at: datetime, service_tier: str) -> Price | None:
        find = self.prices.price_or_fallback if self.use_fallback_price else self.prices.price
        return find(provider, model, at, service_tier)

    def _count(self, asked: CheckRequested, provider: str, model: str, counts: _Counts) -> _Counted:
        if asked.estimated_tokens is not None:
            return _Counted(asked.estimated_tokens, None, None, "estimated_tokens")
        input_tokens, source = _input(asked, provider, model, counts)
        output_tokens, word = self._output(asked, provider, model)
        return _Counted(input_tokens + output_tokens, input_tokens, output_tokens, f"{source}, {word}")

    def _output(self, asked: CheckRequested, provider: str, model: str) -> tuple[int, str]:
        if asked.max_output_tokens is not None:
            return asked.max_output_tokens, "max_output_tokens"
        learnt = self.outputs.p99(asked.component, provider, model)
        assumed, word = self.default_max_output_tokens, "default_max_output_tokens"
        if learnt is not None and learnt > assumed:
            assumed, word = learnt, "p99_output"
        most = _at_most(assumed, max_output_tokens(provider, model))
        return most, word if most == assumed else "model_maximum"


def without_of(asked: CheckRequested) -> Without:
    """A text holds no audio and no image; of bare counts nothing is known unless the caller says so."""
    text = asked.input_text is not None
    return Without(
        audio=text or asked.input_audio_tokens == 0,
        image=text or asked.input_image_tokens == 0,
        cache_creation_1h=asked.cache_creation_1h_input_tokens == 0,
    )


def _input(asked: CheckRequested, provider: str, model: str, counts: _Counts) -> tuple[int, str]:
    """The input tokens of *asked*; a text is counted once per vocabulary and remembered in *counts*."""
    if asked.input_tokens is not None:
        return asked.input_tokens, "input_tokens"
    vocabulary = vocabulary_of(provider, model)
    counted = counts.get(vocabulary)
    if counted is None:
        counted = counts[vocabulary] = count_tokens(provider, model, asked.input_text or "")
    return counted.tokens_upper, f"input_text ({counted.source})"


def _least_picos(price: Price, counted: _Counted) -> int:
    """What the cheapest of a bound's rates come to: never more than the bound."""
    if counted.input is None or counted.output is None:
        return counted.total * max(price.input.base, price.output.base)
    return counted.input * price.input.base + counted.output * price.output.base


def _at_most(tokens: int, ceiling: int | None) -> int:
    return tokens if ceiling is None else min(tokens, ceiling)
