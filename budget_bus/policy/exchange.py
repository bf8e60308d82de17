"""An amount of one currency in another, at the rate of a day: integers throughout, and the same as the database's."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import NamedTuple

from budget_bus.money import Nanos

STALE_AFTER = timedelta(days=7)  # the ECB publishes on its working days; Easter and Christmas are the longest gaps


class DatedRate(NamedTuple):
    """Billionths of a currency for one euro, for the UTC days from *effective_from* on."""

    effective_from: date
    per_eur: int
    published: date


class Quote(NamedTuple):
    """How many of the one currency one of the other is on a day, and the older publication of the two."""

    rate: Fraction
    published: date

    def is_stale(self, day: date) -> bool:
        return day - self.published > STALE_AFTER


@dataclass(frozen=True, slots=True)
class ExchangeRates:
    """What is known, by currency and in the order of days. Currencies without a rate cannot be converted."""

    known: Mapping[str, tuple[DatedRate, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[tuple[str, DatedRate]]) -> ExchangeRates:
        """From rows in any order."""
        found: dict[str, list[DatedRate]] = {}
        for currency, rate in rows:
            found.setdefault(currency, []).append(rate)
        return cls({currency: tuple(sorted(rates)) for currency, rates in found.items()})

    def convert(self, nanos: int, source: str, target: str, day: date, *, up: bool = False) -> Nanos | None:
        """
        *nanos* of *source* in *target* at the rates of the UTC *day*, rounded half to even, or *up*.

        None when one of them has no rate.
        """
        if source == target:
            return Nanos(nanos)
        divisor, factor = self._on(source, day), self._on(target, day)
        if divisor is None or factor is None:
            return None
        quotient, rest = divmod(nanos * factor.per_eur, divisor.per_eur)
        if up:
            return Nanos(quotient + (rest > 0))
        half = 2 * rest - divisor.per_eur
        return Nanos(quotient + (half > 0 or (half == 0 and quotient % 2 == 1)))

    def quote(self, source: str, target: str, day: date) -> Quote | None:
        """What *convert* multiplies with."""
        divisor, factor = self._on(source, day), self._on(target, day)
        if divisor is None or factor is None:
            return None
        # The euro's own rate is no publication: it never grows old.
        dates = [rate.published for code, rate in ((source, divisor), (target, factor)) if code != "EUR"]
        return Quote(Fraction(factor.per_eur, divisor.per_eur), min(dates, default=day))

    def _on(self, currency: str, day: date) -> DatedRate | None:
        rates = self.known.get(currency, ())
        found = bisect_right(rates, day, key=lambda rate: rate.effective_from)
        return rates[found - 1] if found else None


NO_RATES = ExchangeRates()


def utc_day(at: datetime) -> date:
    """The UTC day of an aware instant: the one that picks the rates of what is counted at it."""
    return at.astimezone(UTC).date()
