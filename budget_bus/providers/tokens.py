"""How many tokens a text has for a model: exact for OpenAI's vocabularies, else estimated, with an upper bound."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Final, Literal, cast

from budget_bus.providers.names import canonical_provider


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


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """
    A model family's tokens in terms of a vocabulary that comes with the package: `factor * count + extra`.

    `error` is the share by which a true count of ASCII text may differ (95th percentile), `wide` the highest factor
    for text outside ASCII.
    """

    encoding: str
    exact: bool = False
    factor: Decimal = Decimal(1)
    extra: int = 0
    error: Decimal = Decimal(0)
    measured: bool = True
    wide: Decimal = Decimal(1)


O200K: Final = Vocabulary("o200k_base", exact=True)
CL100K: Final = Vocabulary("cl100k_base", exact=True)

# Measured in November 2026 against ctok 1.3.0, which reproduces Anthropic's own counts, on 94 documents of English
# text and Python code with a few in other scripts (those needed 1.5 to 3.6 times o200k_base).
CLAUDE_TO_4_6: Final = Vocabulary(
    "o200k_base", factor=Decimal("1.227"), extra=7, error=Decimal("0.117"), wide=Decimal("3.6")
)
CLAUDE_FROM_4_7: Final = Vocabulary(
    "o200k_base", factor=Decimal("1.695"), extra=6, error=Decimal("0.179"), wide=Decimal("3.6")
)
# Measured in November 2026 against Llama 3's vocabulary: English 0.995, code 0.999, other scripts 1.09 on average.
# The wide factor leaves room above that average.
LLAMA: Final = Vocabulary("o200k_base", error=Decimal("0.01"), wide=Decimal("1.5"))
# No vocabulary to measure against comes with any package; the margins are a judgement, not a measurement.
UNKNOWN: Final = Vocabulary("o200k_base", error=Decimal("0.25"), measured=False, wide=Decimal(2))

# Which of OpenAI's models use which vocabulary: tiktoken's model.py (github.com/openai/tiktoken), November 2026.
_O200K_NAME = re.compile(r"(chatgpt-4o|gpt-4o|gpt-4\.[15]|gpt-[5-9]|gpt-oss|o[1-9](?=$|-)|codex-mini|computer-use)")
_CL100K_NAME = re.compile(r"(gpt-4(?=$|-)|gpt-3\.?5|text-embedding-(ada-002|3-)|babbage-002|davinci-002)")
_CLAUDE_TO_4_6_NAME = re.compile(r"claude-(v?[123]|instant|4(?![.-]?[789])|[a-z]+-4(?!-?[789]\b|\.[789]))")
_LLAMA_NAME = re.compile(r"llama-?(3|4|guard)")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def count_tokens(provider: str, model: str, text: str) -> TokenCount:
    """
    Count *text* as *model* would. Special strings such as `<|endoftext|>` count as the plain text they are.

    Time grows linearly with the text, whatever is in it. The first count of a process loads a vocabulary (0.3 s).
    """
    vocabulary = vocabulary_of(provider, model)
    if not text:
        return TokenCount(0, "exact" if vocabulary.exact else "estimated", _error_percent(vocabulary), 0)
    counted = _count(text, vocabulary.encoding)
    if vocabulary.exact:
        return TokenCount(counted, "exact", None, counted)
    tokens = _scaled(counted, vocabulary.factor, ROUND_HALF_EVEN) + vocabulary.extra
    # An error e is relative to the true count, so the true count is at most the estimate / (1 - e).
    ascii_factor = vocabulary.factor / (1 - vocabulary.error)
    if text.isascii():
        upper = _scaled(counted, ascii_factor, ROUND_CEILING)
    else:
        plain = _count(_NOT_ASCII.sub(" ", text), vocabulary.encoding)
        wide = _count("".join(_NOT_ASCII.findall(text)), vocabulary.encoding)
        upper = _scaled(plain, ascii_factor, ROUND_CEILING)
        upper += _scaled(wide, max(vocabulary.wide, ascii_factor), ROUND_CEILING)
    upper_extra = _scaled(vocabulary.extra, 1 / (1 - vocabulary.error), ROUND_CEILING)
    return TokenCount(tokens, "estimated", _error_percent(vocabulary), max(tokens, upper + upper_extra))


@lru_cache(maxsize=4096)
def vocabulary_of(provider: str, model: str) -> Vocabulary:
    """
    The vocabulary to count with. A model counts alike wherever it is hosted, so its name decides before *provider*.

    A Claude model that is not known to use the older, smaller counts is taken to use the newer, larger ones.
    """
    name = model.strip().lower().removeprefix("ft:").rpartition("/")[2]
    if "claude" in name or canonical_provider(provider) == "anthropic":
        return CLAUDE_TO_4_6 if _CLAUDE_TO_4_6_NAME.search(name) else CLAUDE_FROM_4_7
    if _O200K_NAME.match(name):
        return O200K
    if _CL100K_NAME.match(name):
        return CL100K
    return LLAMA if _LLAMA_NAME.search(name) else UNKNOWN


def _count(text: str, encoding: str) -> int:
    try:
        return _counter()([text], encoding, 1)[0]
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8; providers see U+FFFD in its place.
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return _counter()([whole], encoding, 1)[0]


@lru_cache(maxsize=1)
def _counter() -> Callable[[list[str], str, int], list[int]]:
    # Imported at first use: the vocabularies weigh 8 MB, and most processes never count.
    from toktok import batch_count  # noqa: PLC0415

    return cast("Callable[[list[str], str, int], list[int]]", batch_count)


def _scaled(count: int, factor: Decimal, rounding: str) -> int:
    return int((count * factor).to_integral_value(rounding))


def _error_percent(vocabulary: Vocabulary) -> str | None:
    return f"{(vocabulary.error * 100).normalize():f}" if vocabulary.measured and not vocabulary.exact else None
