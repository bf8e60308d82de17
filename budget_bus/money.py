"""
Money as integers: amounts in nanos of a currency (1e-9), prices in picos per token (1e-12).

A published price has at most 6 decimals per million tokens, so picos hold it exactly. Amounts become text only
at the edges, as plain decimal strings; a float never enters.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import NewType

from budget_bus.errors import FieldError, Rejected

Nanos = NewType("Nanos", int)
PicosPerToken = NewType("PicosPerToken", int)

NANOS_PER_UNIT = 10**9
PICOS_PER_NANO = 1000
MAX_NANOS = 2**63 - 1  # what PostgreSQL's BIGINT holds: about 9.2 billion of a currency

_MAX_AMOUNT = Decimal(MAX_NANOS).scaleb(-9)
# The default context rounds to 28 digits without a word, so that an amount finer than 1e-9 could pass as a whole one.
_EXACT = Context(prec=40, traps=[Inexact])

_CURRENCY = re.compile(r"[A-Z]{3}")


def parse_amount(text: str | int | Decimal, *, field: str = "amount") -> Nanos:
    """
    Read a decimal amount of a currency, exactly.

    Raises:
        Rejected: not a finite decimal, finer than 1e-9, negative, or larger than BIGINT nanos.
    """
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise _bad(field, f"{_short(text)} is not a decimal amount; write for example 12.50") from None
    if not amount.is_finite():
        raise _bad(field, f"{_short(text)} is not a finite amount")
    if amount < 0:
        raise _bad(field, "must not be negative")
    # Comparing is exact at any size, so what is multiplied below has at most 10 digits before the point.
    if amount > _MAX_AMOUNT:
        raise _bad(field, f"must be at most {_MAX_AMOUNT}")
    try:
        nanos = _EXACT.multiply(amount, NANOS_PER_UNIT)
    except Inexact:
        raise _bad(field, "has more than 9 decimals") from None
    if nanos != nanos.to_integral_value():
        raise _bad(field, "has more than 9 decimals")
    return Nanos(int(nanos))


def format_nanos(nanos: int) -> str:
    """Write an amount as the shortest exact decimal string: 4_500_000 is "0.0045"."""
    sign = "-" if nanos < 0 else ""
    whole, fraction = divmod(abs(nanos), NANOS_PER_UNIT)
    return f"{sign}{whole}.{fraction:09d}".rstrip("0").rstrip(".")


def round_picos(picos: int) -> Nanos:
    """Round a sum of picos to nanos, half to even: the one rounding that an event's cost goes through."""
    nanos, rest = divmod(picos, PICOS_PER_NANO)
    half = PICOS_PER_NANO // 2
    if rest > half or (rest == half and nanos % 2):
        nanos += 1
    return Nanos(nanos)


def check_currency(code: str, *, field: str = "currency") -> str:
    """Return *code* if it has the form of an ISO 4217 code, else raise Rejected."""
    if not _CURRENCY.fullmatch(code):
        raise _bad(field, f"{code!r} is not a three-letter ISO 4217 code such as USD")
    return code


def _short(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _bad(field: str, message: str) -> Rejected:
    return Rejected(f"invalid {field}", [FieldError(field, message)])
