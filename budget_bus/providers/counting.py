"""Counting a text with a vocabulary: exact for OpenAI's own, else estimated, with an upper bound."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Literal, cast

from budget_bus.providers.vocabularies import Vocabulary


@dataclass(frozen=True, slots=True)
class TokenCount:
    """
    The tokens of one bare text; what a chat format adds per message is not in it.

    `error_percent` of an estimate is the 95th percentile of its measured error on English and code, None where nobody
    measured. `tokens_upper` is what a check should hold: the count itself when exact, else the estimate raised by its
    error, with text outside ASCII raised by the worst factor seen. It is a bound for that share of texts, not a proof.
    """

    tokens: int
    source: Literal["exact", "estimated"]
    error_percent: str | None
    tokens_upper: int


_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def count_with(vocabulary: Vocabulary, text: str) -> TokenCount:
    """Count *text*; time grows linearly with it. The first count of a process loads a vocabulary (0.3 s)."""
    if not text:
        return TokenCount(0, "exact" if vocabulary.exact else "estimated", _error_percent(vocabulary), 0)
    counted = _count(text, vocabulary)
    if vocabulary.exact:
        return TokenCount(counted, "exact", None, counted)
    tokens = _scaled(counted, vocabulary.factor, ROUND_HALF_EVEN) + vocabulary.extra
    # An error e is relative to the true count, so the true count is at most the estimate / (1 - e).
    ascii_factor = vocabulary.factor / (1 - vocabulary.error)
    if text.isascii():
        upper = _scaled(counted, ascii_factor, ROUND_CEILING)
    else:
        plain = _count(_NOT_ASCII.sub(" ", text), vocabulary)
        wide = _count("".join(_NOT_ASCII.findall(text)), vocabulary)
        upper = _scaled(plain, ascii_factor, ROUND_CEILING)
        upper += _scaled(wide, max(vocabulary.wide, ascii_factor), ROUND_CEILING)
    upper_extra = _scaled(vocabulary.extra, 1 / (1 - vocabulary.error), ROUND_CEILING)
    return TokenCount(tokens, "estimated", _error_percent(vocabulary), max(tokens, upper + upper_extra))


def _count(text: str, vocabulary: Vocabulary) -> int:
    if vocabulary.counter is not None:
        return vocabulary.counter(text)
    try:
        return _counter()([text], vocabulary.encoding, 1)[0]
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8; providers see U+FFFD in its place.
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return _counter()([whole], vocabulary.encoding, 1)[0]


@lru_cache(maxsize=1)
def _counter() -> Callable[[list[str], str, int], list[int]]:
    # Imported at first use: the vocabularies weigh 8 MB, and most processes never count.
    from toktok import batch_count  # noqa: PLC0415

    return cast("Callable[[list[str], str, int], list[int]]", batch_count)


def _scaled(count: int, factor: Decimal, rounding: str) -> int:
    return int((count * factor).to_integral_value(rounding))


def _error_percent(vocabulary: Vocabulary) -> str | None:
    return f"{(vocabulary.error * 100).normalize():f}" if vocabulary.measured and not vocabulary.exact else None
