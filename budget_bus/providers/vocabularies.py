"""Whose tokens are counted with which vocabulary, and how far such a count may be off."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """
    A model family's tokens in terms of a vocabulary that comes with the package: `factor * count + extra`.

    `error` is the share by which a true count of ASCII text may differ (95th percentile), `wide` the highest factor
    for text outside ASCII. A provider with a tokenizer of its own gives `counter`, which then counts instead of
    `encoding`; it must be safe to call from any thread.
    """

    encoding: str
    exact: bool = False
    factor: Decimal = Decimal(1)
    extra: int = 0
    error: Decimal = Decimal(0)
    measured: bool = True
    wide: Decimal = Decimal(1)
    counter: Callable[[str], int] | None = None


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


def named_vocabulary(model: str) -> Vocabulary:
    """The vocabulary of a model by its name alone: a model counts alike wherever it is hosted."""
    name = bare_name(model)
    if "claude" in name:
        return claude_vocabulary(name)
    if _O200K_NAME.match(name):
        return O200K
    if _CL100K_NAME.match(name):
        return CL100K
    return LLAMA if _LLAMA_NAME.search(name) else UNKNOWN


def claude_vocabulary(model: str) -> Vocabulary:
    """One that is not known to use the older, smaller counts is taken to use the newer, larger ones."""
    return CLAUDE_TO_4_6 if _CLAUDE_TO_4_6_NAME.search(bare_name(model)) else CLAUDE_FROM_4_7


def bare_name(model: str) -> str:
    """A model's name in lower case without a host's or a maker's prefix."""
    return model.strip().lower().removeprefix("ft:").rpartition("/")[2]
