"""The words that are no names: those of the grammar, and those that say nothing."""

from __future__ import annotations

import re
from typing import Final

from budget_bus.specialist.grammar import DIMENSIONS, INTENTS, MEASURES

# Words that say nothing that we would act on. A word that is neither here nor in a pattern nor a known name may be a
# name that was misspelt: it is compared with the known ones, and where a name must stand it is called unknown.
_PLAIN: Final = """
a about open close closed daily weekly monthly hourly actually again all am an and any anyone anybody anything are
around as ask at be because been being between both but by came can check come could currently dear did different do
does doing done dont each else even ever every everyone everybody everything exactly far few find first for from full
gave get gets getting give given go goes going gone good got had has have having he hello help her here him his how i
if im in into is it its just keep know last later latest let lets like list little long look lot made make makes
making many may maybe me mean might mine money more most much must my need needs next no none not nothing now of off
ok okay old on once one only or other our ours out over own per please possible present quite rather really recent
recently report right same say see she should show since so some someone somebody soon still such sum summary take
takes tell than thank thanks that the their them then there these they thing things this those through till time times
to today together too total totals twice two under until up upon us usd used useful using very want wants was way we
well went were what whats when where whether which while who whom whose why will wish with within without would yes
yet you your yours hour hours day days week weeks month months year years minute minutes input output prompt
completion tokens token average dollars dollar euros euro eur cents system service happen happened happens denied
current past previous reason reasons number numbers figure figures data info information overview rank ranking ranked
sorted order amount amounts value values new big small high low busy best worst better worse name named called type
types long-term asked asking answer budget
"""
_PATTERNS: Final = " ".join(
    [*(p for intent in INTENTS for p in intent.patterns), *DIMENSIONS.values(), *MEASURES.values()]
)
_WORDS: Final = frozenset([*_PLAIN.split(), *re.findall(r"[a-z]{3,}", re.sub(r"\\[a-z]", " ", _PATTERNS))])
# "cheap" of "cheap\w*": every word that begins so is one of ours.
_STEMS: Final = tuple(
    {stem for stem in re.findall(r"([a-z]{3,})(?:\[[a-z]+\])?\\w[*+]", _PATTERNS.replace(r"\b", " "))}
)


def is_known(word: str) -> bool:
    """Whether a word (lower case) is one of the grammar or of those that say nothing, so that it is no name."""
    return word in _WORDS or word.removesuffix("s") in _WORDS or f"{word}s" in _WORDS or word.startswith(_STEMS)


# After these a name stands, if the word is none that we know.
BEFORE_NAMES: Final = re.compile(
    r"\b(?:did|does|do|has|have|had|can|could|may|will|is|was|were|are|of|for|by|on|with|component|model|provider|user"
    r"|about|and|why)\s+(?:the\s+)?$"
)
