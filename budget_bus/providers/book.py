"""How one row of the price data becomes a Price in whole picos per token."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Final

from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint, TieredPrices, TimeOfDateConstraint

from budget_bus.money import PicosPerToken
from budget_bus.policy.pricing import Price, PriceStatus, Rate
from budget_bus.providers import data
from budget_bus.providers.base import free_price
from budget_bus.providers.names import canonical_provider, price_book_id

# The context in which the data lists a service tier's own rates.
_CONTEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
}

# Names are matched by prefix and substring too, so one with spaces or control characters could look like a model.
_PLAIN_NAME = re.compile(r"[!-~]+")

_ZERO = Rate(PicosPerToken(0))


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in the bundled data. *own* is False when another provider's row stands in (Azure's OpenAI models)."""

    provider_id: str
    model: ModelInfo
    own: bool


@lru_cache(maxsize=4096)
def find_entry(provider: str, model: str) -> Entry | None:
    """
    The data's row for a model of a provider given by its canonical name, or None.

    The provider's id must be exact: the library's own search would take any name that merely contains "openai". The
    lookup goes past the library's snapshot caches, which keep every unknown name for ever.
    """
    name = model.strip()
    listed = data.providers().get(price_book_id(provider))
    if listed is None or not _PLAIN_NAME.fullmatch(name):
        return None
    found = listed.find_model(name, all_providers=list(data.providers().values()))
    if found is None and name.lower().startswith(f"{provider}/"):
        found = listed.find_model(name[len(provider) + 1 :], all_providers=list(data.providers().values()))
    if found is None:
        return None
    return Entry(listed.id, found, own=any(found is row for row in listed.models))


data.on_change(find_entry.cache_clear)


def provider_names() -> list[str]:
    """The canonical names of all providers in the data, in order."""
    return sorted(map(canonical_provider, data.providers()))


def list_models(provider: str) -> list[str]:
    """The names of the data's own rows for a provider given by its canonical name."""
    listed = data.providers().get(price_book_id(provider))
    return [] if listed is None else [row.id for row in listed.models]


def price_of(entry: Entry, at: datetime, service_tier: str) -> Price | None:
    """The price of *entry* at an aware instant, or None when the data lists no price per token for it."""
    context = _CONTEXTS.get(service_tier)
    own_tier = context is not None and entry.own and _has_variant(entry.model, at, context)
    rates = _rates(entry.model.get_prices(at, context if own_tier else None))
    if not rates:
        # An empty row is how the data writes both "free" and "no price known". Only a model sold as free is free.
        return free_price(_source(entry)) if entry.model.id.endswith(":free") else None
    if "input_mtok" not in rates:
        return None
    exact = all(is_exact for _, is_exact in rates.values())
    get = {key: rate for key, (rate, _) in rates.items()}.get
    priced = PriceStatus.PRICED if own_tier or service_tier == "standard" else PriceStatus.FALLBACK
    return Price(
        input=get("input_mtok", _ZERO),
        output=get("output_mtok", _ZERO),
        cache_read=get("cache_read_mtok"),
        cache_creation=get("cache_write_mtok"),
        reasoning_output=get("output_reasoning_mtok"),
        input_audio=get("input_audio_mtok"),
        output_audio=get("output_audio_mtok"),
        cache_creation_1h=get("cache_write_1h_mtok"),
        input_image=get("input_image_mtok"),
        output_image=get("output_image_mtok"),
        per_request_picos=get("requests_kcount", _ZERO).base,
        source=_source(entry) if exact else f"{_source(entry)}, rounded to picos",
        status=priced,
    )


def changes_of(entry: Entry, start: datetime, end: datetime) -> Iterator[datetime]:
    """The instants within `(start, end)` at which the standard price of *entry* may change; each may come twice."""
    prices = entry.model.prices
    for one in prices if isinstance(prices, list) else ():
        match one.constraint:
            case StartDateConstraint(start_date=day):
                yield datetime.combine(day, time(), UTC)
            case TimeOfDateConstraint(start_time=first, end_time=last):
                day = start.astimezone(UTC).date()
                while day <= end.astimezone(UTC).date():
                    for at in (first, last):
                        instant = datetime.combine(day, at, at.tzinfo or UTC).astimezone(UTC)
                        # A time of day in another zone may lie on the day before or after.
                        yield from (instant + timedelta(days=off) for off in (-1, 0, 1))
                    day += timedelta(days=1)


def _has_variant(model: ModelInfo, at: datetime, context: Mapping[str, str]) -> bool:
    return any(
        (variant.constraint is None or variant.constraint.active(at))
        and all(context.get(key) == value for key, value in variant.when.items())
        for variant in model.price_variants or ()
    )


# What the data lists per million tokens, and the one fee per thousand requests. Tool calls, video and seconds of
# audio are not in an event's token counts, so their prices cannot be charged.
_PER: Final = {
    "input_mtok": 10**6,
    "output_mtok": 10**6,
    "cache_read_mtok": 10**6,
    "cache_write_mtok": 10**6,
    "output_reasoning_mtok": 10**6,
    "input_audio_mtok": 10**6,
    "output_audio_mtok": 10**6,
    "cache_write_1h_mtok": 10**6,
    "input_image_mtok": 10**6,
    "output_image_mtok": 10**6,
    "requests_kcount": 10**3,
}


def _rates(prices: ModelPrice) -> dict[str, tuple[Rate, bool]]:
    listed = {key: prices.__dict__.get(key) for key in _PER}
    return {key: _rate(value, _PER[key]) for key, value in listed.items() if value is not None}


def _rate(value: Decimal | TieredPrices, per: int) -> tuple[Rate, bool]:
    if isinstance(value, Decimal):
        picos, exact = _picos(value, per)
        return Rate(picos), exact
    base, exact = _picos(value.base, per)
    tiers = [(tier.start, *_picos(tier.price, per)) for tier in value.tiers]
    rate = Rate(base, tuple((start, picos) for start, picos, _ in tiers))
    return rate, exact and all(is_exact for _, _, is_exact in tiers)


def _picos(price: Decimal, per: int) -> tuple[PicosPerToken, bool]:
    exact = price * 10**12 / per
    whole = exact.to_integral_value(ROUND_HALF_EVEN)
    return PicosPerToken(int(whole)), whole == exact


def _source(entry: Entry) -> str:
    return f"{data.source()} {entry.provider_id}/{entry.model.id}"
