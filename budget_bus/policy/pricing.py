"""What a call's tokens cost at a price, with one rounding, and the most they could cost before the call is made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from budget_bus.money import Nanos, PicosPerToken, round_picos

PRICE_CURRENCY = "USD"  # what all prices are in, and so all estimates and the ledger's costs


class PriceStatus(StrEnum):
    """How an event's or estimate's cost was found; `unpriced` has no cost and is never free."""

    PRICED = "priced"
    FREE = "free"
    UNPRICED = "unpriced"
    FALLBACK = "fallback"


class Tokens(NamedTuple):
    """
    Token counts of one call in OpenTelemetry's words.

    `input` includes cached, audio and image tokens, `output` includes reasoning, audio and images: the others are
    subsets, never added again. `cache_creation_1h` is the part of `cache_creation` that is kept for an hour.
    """

    input: int
    output: int
    cache_read: int = 0
    cache_creation: int = 0
    reasoning_output: int = 0
    input_audio: int = 0
    output_audio: int = 0
    cache_creation_1h: int = 0
    input_image: int = 0
    output_image: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class Rate:
    """
    A price per token of one class, in picos; above a context size another one may hold for all its tokens.

    `tiers` is `((more_than_input_tokens, picos), ...)`, ascending.
    """

    base: PicosPerToken
    tiers: tuple[tuple[int, PicosPerToken], ...] = ()

    def at(self, input_tokens: int) -> PicosPerToken:
        picos = self.base
        for more_than, tier_picos in self.tiers:
            if input_tokens > more_than:
                picos = tier_picos
        return picos

    def dearest(self, up_to_input_tokens: int) -> PicosPerToken:
        """The highest rate that any context of at most *up_to_input_tokens* could be charged."""
        return max([self.base, *(picos for more_than, picos in self.tiers if up_to_input_tokens > more_than)])


@dataclass(frozen=True, slots=True)
class Price:
    """
    The prices of one model at one instant, per token class. A class without its own rate is charged as its parent.

    `source` says where it comes from, for the ledger; `status` is PRICED, FREE (all rates zero on purpose) or
    FALLBACK (the operator's stand-in, or the standard tier's price for a service tier without one).
    """

    input: Rate
    output: Rate
    cache_read: Rate | None = None
    cache_creation: Rate | None = None
    reasoning_output: Rate | None = None
    input_audio: Rate | None = None
    output_audio: Rate | None = None
    cache_creation_1h: Rate | None = None
    input_image: Rate | None = None
    output_image: Rate | None = None
    per_request_picos: int = 0
    currency: str = "USD"
    source: str = "book"
    status: PriceStatus = field(default=PriceStatus.PRICED)

    def input_rates(self, without: Without) -> Iterable[Rate]:
        rates = [self.input, self.cache_creation, self.cache_read]
        rates += [] if without.audio else [self.input_audio]
        rates += [] if without.image else [self.input_image]
        rates += [] if without.cache_creation_1h else [self.cache_creation_1h]
        return [rate for rate in rates if rate is not None]

    def output_rates(self) -> Iterable[Rate]:
        rates = [self.output, self.reasoning_output, self.output_audio, self.output_image]
        return [rate for rate in rates if rate is not None]


class Without(NamedTuple):
    """Which classes the input of a call is known not to have, so that its bound need not allow for them."""

    audio: bool = False
    image: bool = False
    cache_creation_1h: bool = False


ANYTHING = Without()


class Cost(NamedTuple):
    """A call's cost in nanos; `input + output == total`, whatever was rounded."""

    total: Nanos
    input: Nanos
    output: Nanos


def cost_of(tokens: Tokens, price: Price) -> Cost:
    """
    Charge *tokens* at *price*: the sum is exact in picos and rounded once, half to even.

    The input part is rounded for display the same way and the output part is the rest, so the two add up to the
    total. A per-request fee belongs to the input part. Audio and images that overlap with cached or reasoning tokens
    are charged as those: no token is charged twice.
    """
    size = tokens.input
    if not any(tokens[2:]):  # no subsets, as in most calls
        return _sum(size * price.input.at(size) + price.per_request_picos, tokens.output * price.output.at(size))
    uncached = max(0, size - tokens.cache_read - tokens.cache_creation)
    unreasoned = max(0, tokens.output - tokens.reasoning_output)
    # Cached audio is in both subsets; charging it in both would cost more than the bound that its check held.
    input_audio = min(tokens.input_audio, uncached)
    input_image = min(tokens.input_image, uncached - input_audio)
    output_audio = min(tokens.output_audio, unreasoned)
    output_image = min(tokens.output_image, unreasoned - output_audio)
    written = price.cache_creation or price.input
    for_an_hour = min(tokens.cache_creation_1h, tokens.cache_creation)
    input_picos = (
        (uncached - input_audio - input_image) * price.input.at(size)
        + tokens.cache_read * (price.cache_read or price.input).at(size)
        + (tokens.cache_creation - for_an_hour) * written.at(size)
        + for_an_hour * (price.cache_creation_1h or written).at(size)
        + input_audio * (price.input_audio or price.input).at(size)
        + input_image * (price.input_image or price.input).at(size)
        + price.per_request_picos
    )
    output_picos = (
        (unreasoned - output_audio - output_image) * price.output.at(size)
        + tokens.reasoning_output * (price.reasoning_output or price.output).at(size)
        + output_audio * (price.output_audio or price.output).at(size)
        + output_image * (price.output_image or price.output).at(size)
    )
    return _sum(input_picos, output_picos)


class Charge(NamedTuple):
    """What is charged for the tokens of one class, which `cost_of` sums up; the fee of a request has no tokens."""

    kind: str
    tokens: int
    picos_per_token: int
    fee_picos: int = 0

    @property
    def picos(self) -> int:
        return self.tokens * self.picos_per_token + self.fee_picos


class Charges(NamedTuple):
    """The charges of both sides of a call, those without tokens left out."""

    input: list[Charge]
    output: list[Charge]


def charges_of(tokens: Tokens, price: Price) -> Charges:
    """
    What `cost_of` sums up, class by class, with no token in two of them.

    Apart from `cost_of`, because that is on the way of every event; a law of their tests holds them together.
    """
    size = tokens.input
    uncached = max(0, size - tokens.cache_read - tokens.cache_creation)
    unreasoned = max(0, tokens.output - tokens.reasoning_output)
    input_audio = min(tokens.input_audio, uncached)
    input_image = min(tokens.input_image, uncached - input_audio)
    output_audio = min(tokens.output_audio, unreasoned)
    output_image = min(tokens.output_image, unreasoned - output_audio)
    written = price.cache_creation or price.input
    for_an_hour = min(tokens.cache_creation_1h, tokens.cache_creation)
    input_side = (
        ("input", uncached - input_audio - input_image, price.input),
        ("cache_read", tokens.cache_read, price.cache_read or price.input),
        ("cache_creation", tokens.cache_creation - for_an_hour, written),
        ("cache_creation_1h", for_an_hour, price.cache_creation_1h or written),
        ("input_audio", input_audio, price.input_audio or price.input),
        ("input_image", input_image, price.input_image or price.input),
    )
    output_side = (
        ("output", unreasoned - output_audio - output_image, price.output),
        ("reasoning_output", tokens.reasoning_output, price.reasoning_output or price.output),
        ("output_audio", output_audio, price.output_audio or price.output),
        ("output_image", output_image, price.output_image or price.output),
    )
    fee = [Charge("request", 0, 0, price.per_request_picos)] if price.per_request_picos else []
    return Charges(
        [Charge(name, count, rate.at(size)) for name, count, rate in input_side if count] + fee,
        [Charge(name, count, rate.at(size)) for name, count, rate in output_side if count],
    )


def _sum(input_picos: int, output_picos: int) -> Cost:
    total = round_picos(input_picos + output_picos)
    input_nanos = min(round_picos(input_picos), total)
    return Cost(total, input_nanos, Nanos(total - input_nanos))


def upper_bound(
    price: Price,
    *,
    input_tokens: int | None,
    output_tokens: int | None,
    total_tokens: int,
    without: Without = ANYTHING,
) -> Nanos:
    """
    The most that a call could cost: every token at the dearest class that could apply.

    With *input_tokens* and *output_tokens* known, each side is bounded by itself. With only *total_tokens*, every
    token is taken at the dearest rate of either side. Classes that the input is *without* are left out. Rounded up,
    so that a bound is never below the cost it bounds.
    """
    if input_tokens is None or output_tokens is None:
        rates = [*price.input_rates(without), *price.output_rates()]
        picos = total_tokens * max(rate.dearest(total_tokens) for rate in rates)
    else:
        picos = input_tokens * max(r.dearest(input_tokens) for r in price.input_rates(without))
        picos += output_tokens * max(r.dearest(input_tokens) for r in price.output_rates())
    return Nanos(-(-(picos + price.per_request_picos) // 1000))


class Rates(NamedTuple):
    """What any call costs at most: picos per input token, per output token, and per request."""

    input: int
    output: int
    request: int


def dearest_rates(price: Price) -> Rates:
    """Bounds that hold for calls of any size, so that whoever has them needs no price book."""
    most = 10**12  # more tokens than any call has: every tier of a price is in reach
    return Rates(
        max(rate.dearest(most) for rate in price.input_rates(ANYTHING)),
        max(rate.dearest(most) for rate in price.output_rates()),
        price.per_request_picos,
    )
