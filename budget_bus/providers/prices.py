"""The price book: what a model's tokens cost at an instant, as an operator has set it, else from the price data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from budget_bus.errors import ConfigError, Rejected
from budget_bus.money import PicosPerToken, parse_amount
from budget_bus.policy.pricing import Price, PriceStatus, Rate
from budget_bus.providers import data
from budget_bus.providers.base import BaseProvider
from budget_bus.providers.book import Entry, changes_of, find_entry, list_models, price_of, provider_names
from budget_bus.providers.names import canonical_provider
from budget_bus.providers.own import OwnPrice, OwnPrices
from budget_bus.providers.registry import ask, provider_of

BUCKET: Final = timedelta(minutes=15)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_BUCKET: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // BUCKET
_LAST_BUCKET: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // BUCKET
CACHED_PRICES: Final = 16_384


def quarter_of(at: datetime) -> datetime:
    """The quarter of an hour that an aware instant falls in; prices change on these."""
    return at - (at - _EPOCH) % BUCKET


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """One model's price for display."""

    provider: str
    model: str
    service_tier: str
    price: Price


class CacheInfo(NamedTuple):
    """How the book's memory of answers is used; `maxsize` bounds it, whatever names callers send."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class PriceBook:
    """
    What the operator has set, else what the provider's adapter says, else the price data; and the operator's stand-in
    for models that have none. `version` is the catalogue's that what was set is of.

    *fallback_price_per_1m* is a decimal string in *currency* per million tokens of any class. `price` never uses it:
    recorded usage of an unpriced model stays unpriced, only a check may be held against `fallback`.
    """

    def __init__(self, fallback_price_per_1m: str | None = None, currency: str = "USD") -> None:
        self.fallback: Price | None = None
        if fallback_price_per_1m is not None:
            rate = Rate(_picos_per_token(fallback_price_per_1m))
            self.fallback = Price(
                input=rate, output=rate, currency=currency, source="operator's fallback", status=PriceStatus.FALLBACK
            )
        self.version = 0
        self.data_id = data.data_id()
        self.own = OwnPrices()
        self._cached = lru_cache(maxsize=CACHED_PRICES)(self._find)

    def use(self, own: Iterable[OwnPrice], version: int) -> bool:
        """Take *own* for all that was set, and the data in use for the base; whether either is another than before."""
        self.version = version
        found = OwnPrices(own)
        if found.all == self.own.all and self.data_id == data.data_id():
            return False
        self.own, self.data_id = found, data.data_id()
        self._cached.cache_clear()
        return True

    def price(self, provider: str, model: str, at: datetime, service_tier: str = "standard") -> Price | None:
        """
        The price of one call at the aware instant *at*; None is unpriced, which is never free.

        What was set holds from its date on; before it, the data, and without any the oldest that was set. Before a
        price's first known date in the data the oldest known one holds. A service tier without rates of its own is
        priced as standard, with status FALLBACK. A local model is FREE.
        """
        # Every date and time of day in the data falls on a quarter of an hour, so all of a bucket has one price.
        return self._cached(provider, model, service_tier, (at - _EPOCH) // BUCKET)

    def _find(self, provider: str, model: str, service_tier: str, bucket: int) -> Price | None:
        # The first and last hours of the calendar in a far time zone lie outside what datetime can say in UTC.
        at = _EPOCH + min(max(bucket, _FIRST_BUCKET), _LAST_BUCKET) * BUCKET
        set_price = self.own.find(provider, model, at, service_tier)
        if set_price is None:
            found = _find_price(provider, model, service_tier, at)
            if found is not None:
                return found
            set_price = self.own.oldest(provider, model, service_tier)
        return None if set_price is None else set_price.price

    def changes(self, provider: str, model: str, start: datetime, end: datetime) -> list[datetime]:
        """The instants within `(start, end)` at which the standard price of a model may change, ascending."""
        found = {one.effective_from for one in self.own.all if one.provider == provider}
        entry = _entry(provider, model)
        if entry is not None:
            found.update(changes_of(entry, start, end))
        return sorted(at for at in found if start < at < end)

    def price_or_fallback(
        self, provider: str, model: str, at: datetime, service_tier: str = "standard"
    ) -> Price | None:
        """As `price`, but an unpriced model gets the operator's fallback, if there is one. For HARD checks only."""
        return self.price(provider, model, at, service_tier) or self.fallback

    def cache_info(self) -> CacheInfo:
        """Hits, misses and size of the memory of answers."""
        return CacheInfo(*self._cached.cache_info())

    def list_prices(
        self, provider: str | None = None, model: str | None = None, *, at: datetime
    ) -> Iterator[ListedPrice]:
        """
        All standard prices at *at*, by provider; one provider's, or those of *model* wherever it is sold.

        A *model* is looked up as in `price`, so that a dated alias finds its row, and is listed as it was given.
        """
        ours = {one.provider for one in self.own.all}
        wanted = sorted({*provider_names(), *ours}) if provider is None else [canonical_provider(provider)]
        for name in wanted:
            for listed in self._models(name) if model is None else [model]:
                price = self.price(name, listed, at)
                if price is not None:
                    yield ListedPrice(name, listed, "standard", price)

    def _models(self, provider: str) -> list[str]:
        known = list_models(provider)
        return known + sorted({one.model for one in self.own.all if one.provider == provider} - {*known})


def max_output_tokens(provider: str, model: str) -> int | None:
    """The most tokens that *model* can answer with, or None: genai-prices 0.2.3 has no such number for any model."""
    entry = _entry(provider, model)
    limit = None if entry is None else getattr(entry.model, "max_output_tokens", None)
    return limit if isinstance(limit, int) else None


def context_window(provider: str, model: str) -> int | None:
    """The most input tokens that *model* takes, or None when the data does not say."""
    entry = _entry(provider, model)
    return None if entry is None else entry.model.context_window


def _entry(provider: str, model: str) -> Entry | None:
    return find_entry(canonical_provider(provider), model)


def _find_price(provider: str, model: str, service_tier: str, at: datetime) -> Price | None:
    own = ask(BaseProvider.price, provider_of(provider), model, at, service_tier)
    if own is not None:
        return own
    entry = _entry(provider, model)
    return None if entry is None else price_of(entry, at, service_tier)


def _picos_per_token(per_million: str) -> PicosPerToken:
    try:
        nanos_per_million = parse_amount(per_million, field="fallback price per 1M tokens")
    except Rejected as bad:
        raise ConfigError(str(bad)) from None
    # 1e-9 per million tokens is 1e-3 picos per token.
    picos, rest = divmod(nanos_per_million, 1000)
    if rest or not picos:
        raise ConfigError(f"fallback price per 1M tokens must be above 0 with at most 6 decimals, not {per_million!r}")
    return PicosPerToken(picos)
