"""Prices that an operator has set: which one holds for a name at an instant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final

from budget_bus.money import PicosPerToken
from budget_bus.policy.pricing import Price, PriceStatus, Rate
from budget_bus.providers.book import find_entry

RATES: Final = tuple(field.name for field in fields(Price) if "Rate" in str(field.type))
"""The classes of tokens that have a rate, in the words of `Price`."""

# What a dated name has behind the plain one: -20240229, -2024-05-13, @20240229, -0613, -latest.
_DATE: Final = re.compile(r"[-@](?:20\d{2}-?\d{2}-?\d{2}|\d{4}|latest)")


@dataclass(frozen=True, slots=True)
class OwnPrice:
    """A price that holds for *model* of a stored provider name from an instant on, until its next one."""

    provider: str
    model: str
    service_tier: str
    effective_from: datetime
    price: Price


class OwnPrices:
    """
    What an operator has set. The name of a model also stands for its dated ones, unless they have a price of their own.

    A service tier without a price is charged the standard one of the same model, with status FALLBACK: what the data
    says of the tier is no part of what was agreed on.
    """

    def __init__(self, prices: Iterable[OwnPrice] = ()) -> None:
        self.all = tuple(sorted(prices, key=lambda one: one.effective_from))
        self._of: dict[tuple[str, str], dict[str, list[OwnPrice]]] = {}
        for one in self.all:
            tiers = self._of.setdefault((one.provider, one.model.lower()), {})
            tiers.setdefault(one.service_tier, []).append(one)

    def find(self, provider: str, model: str, at: datetime, service_tier: str) -> OwnPrice | None:
        """The one in force at the aware instant *at*; None before the first, or when nothing was set."""
        found = self._dated(provider, model, service_tier)
        return next((one for one in reversed(found) if one.effective_from <= at), None)

    def oldest(self, provider: str, model: str, service_tier: str) -> OwnPrice | None:
        """The first that was set: it stands in for the time before it where nothing else is known."""
        return next(iter(self._dated(provider, model, service_tier)), None)

    def _dated(self, provider: str, model: str, service_tier: str) -> list[OwnPrice]:
        tiers = self._tiers(provider, model.strip().lower())
        if service_tier in tiers:
            return tiers[service_tier]
        standard = tiers.get("standard", [])
        return [replace(one, price=replace(one.price, status=_unsure(one.price))) for one in standard]

    def _tiers(self, provider: str, model: str) -> dict[str, list[OwnPrice]]:
        if not self._of:
            return {}
        exact = self._of.get((provider, model))
        if exact is not None:
            return exact
        stems = [name for of, name in self._of if of == provider and _is_dated(provider, model, name)]
        return self._of[provider, max(stems, key=len)] if stems else {}


def price_from(rates: Mapping[str, Any], *, currency: str, source: str) -> Price:
    """A price of rates as they are stored; all zero is free, on purpose."""
    known: dict[str, Any] = {name: _rate(*rates[name]) for name in RATES if rates.get(name) is not None}
    free = not rates.get("per_request") and not any(rate.dearest(10**12) for rate in known.values())
    return Price(
        **known,
        per_request_picos=int(rates.get("per_request") or 0),
        currency=currency,
        source=source,
        status=PriceStatus.FREE if free else PriceStatus.PRICED,
    )


def rates_of(price: Price) -> dict[str, Any]:
    """A price's rates as they are stored."""
    said: dict[str, Any] = {}
    for name in RATES:
        rate: Rate | None = getattr(price, name)
        if rate is not None:
            said[name] = [rate.base, [list(tier) for tier in rate.tiers]]
    return said | ({"per_request": price.per_request_picos} if price.per_request_picos else {})


def _rate(base: int, tiers: Sequence[Sequence[int]]) -> Rate:
    return Rate(PicosPerToken(base), tuple((more_than, PicosPerToken(picos)) for more_than, picos in tiers))


def _unsure(price: Price) -> PriceStatus:
    return price.status if price.status is PriceStatus.FREE else PriceStatus.FALLBACK


def _is_dated(provider: str, model: str, plain: str) -> bool:
    if not model.startswith(plain):
        return False
    if _DATE.fullmatch(model[len(plain) :]):
        return True
    entry = find_entry(provider, model)
    return entry is not None and entry == find_entry(provider, plain)
