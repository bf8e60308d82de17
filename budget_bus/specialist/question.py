"""A text, and what was said before, -> what is asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from budget_bus.specialist.grammar import DIMENSIONS, FOLLOWS, INTENTS, MEASURES, Intent
from budget_bus.specialist.names import Names, Unknown
from budget_bus.specialist.periods import ADJECTIVES, Now, Span, find_spans

_MOST_TURNS: Final = 4  # so many follow-ups in a row are understood
_MOST_CALLS: Final = 10**9
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_N = r"(\d[\d,]*(?:\.\d+)?)\s?(k|m|thousand|million)?"
_TOKENS = re.compile(
    rf"\b{_N}\s+(?:(input|output|prompt|completion)\s+)?tokens?(?:\s+(?:of\s+)?(input|output|in|out)\b)?"
)
_CALLS = re.compile(
    rf"\b{_N}\s+(?:(?:more|further|extra|additional|other|such)\s+)*(?:[\w.:/-]+\s+)?(?:calls?|requests?|runs?|times|messages?|queries|prompts?)\b"
)
_MORE = re.compile(rf"\b(?:{_N}\s+more|(another|one more|a|one)\s+(?:\w+\s+){{0,3}}(?:call|request|run)\b)")
_TOP = re.compile(r"\b(?:top|first|biggest|largest|which|the)\s+(\d{1,3})\b")
_SCALE: Final = {"k": 1000, "thousand": 1000, "m": 10**6, "million": 10**6}
_LEAST = re.compile(r"\b(?:least|lowest|smallest|fewest)\b")
# Periods that are none of ours: better to say so than to answer for another one.
_ODD_PERIOD = re.compile(
    r"\b\d{4}-\d|\b\d{1,2}[/.]\d{1,2}\b|\bquarters?\b|\bfortnights?\b|\bweekends?\b|\btomorrow\b|\byears?\b"
    r"|\bnext (?:hour|day|week|month)\b|\bdecades?\b|\b(?:morning|afternoon|evening|noon|midnight)\b"
)
_AVERAGE = re.compile(r"\b(?:average|mean|per (?:call|request)|(?:a|each) (?:call|request)|unit costs?)\b")
_ME = re.compile(r"\b(?:i|me|my|mine|we|us|our)\b")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for. Names are those of the books; *tokens* has `input`, `output` or `total` of one call."""

    text: str
    intent: str | None = None
    spans: tuple[Span, ...] = ()
    components: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    task_types: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    dimension: str | None = None
    measure: str | None = None
    period: str | None = None
    calls: int | None = None
    tokens: dict[str, int] = field(default_factory=dict)
    top: int | None = None
    least: bool = False
    average: bool = False
    request_id: str | None = None
    unknown: tuple[Unknown, ...] = ()
    odd_period: bool = False


_SLOTS: Final = (
    "spans", "components", "models", "providers", "users", "task_types", "budgets", "dimension", "measure", "period",
    "calls", "tokens", "top", "request_id",
)  # fmt: skip


def understand(text: str, before: Sequence[str], names: Names, now: Now, *, component: str | None = None) -> Question:
    """
    Read *text*; one that only goes on with the question before it ("and yesterday?") takes from that what it does not
    say itself. *component* is who "I" is.
    """
    asked = _read(text, names, now, component)
    if before and (asked.intent is None or _goes_on(text, asked)) and _says_something(asked):
        earlier = understand(before[-1], before[-_MOST_TURNS:-1], names, now, component=component)
        if earlier.intent is not None:
            return _over(earlier, asked)
    return asked


def _goes_on(text: str, asked: Question) -> bool:
    # "And how much did codex spend?" is a question of its own; "and for codex?" is none.
    return (
        bool(FOLLOWS.match(text.lower()))
        and asked.intent in ("limits", "spend", "help", None)
        and len(text.split()) < 5
    )


def _says_something(asked: Question) -> bool:
    return any(getattr(asked, slot) for slot in _SLOTS) or bool(asked.unknown)


def _over(earlier: Question, asked: Question) -> Question:
    said = {slot: getattr(asked, slot) for slot in _SLOTS if getattr(asked, slot)}
    if asked.dimension and earlier.intent == "spend":
        said["intent"] = "top"
    # Who spent most of all components is not asked of one: "and codex?" is what that one spent.
    named = asked.components or asked.models or asked.providers or asked.users
    if named and earlier.intent == "top" and getattr(asked, f"{earlier.dimension or 'component'}s", ()):
        said["intent"], said["dimension"] = "spend", None
    return replace(earlier, text=asked.text, unknown=asked.unknown, **said)


def _read(text: str, names: Names, now: Now, component: str | None) -> Question:
    lower = " ".join(text.lower().split())
    ids = _UUID.findall(lower)
    spans, rest = find_spans(_UUID.sub(" ", lower), now)
    rest, tokens = _tokens(rest)
    calls = _number(_CALLS, rest) or _number(_MORE, rest)
    if calls is None and (one := _MORE.search(rest)) and one.group(3):
        calls = 1
    top = _TOP.search(rest)
    found = names.find(rest)
    words = " ".join(found.rest.split())
    components = tuple(found.names["component"])
    if not components and component and _ME.search(words):
        components = (component,)
    asked = Question(
        text=text,
        spans=tuple(spans),
        components=components,
        models=tuple(found.names["model"]),
        providers=tuple(found.names["provider"]),
        users=tuple(found.names["user"]),
        task_types=tuple(found.names["task_type"]),
        budgets=tuple(found.names["budget"]),
        dimension=_first(DIMENSIONS, words),
        measure=_first(MEASURES, words),
        period=next((period for word, period in ADJECTIVES.items() if re.search(rf"\b{word}\b", words)), None),
        calls=calls,
        tokens=tokens,
        top=int(top.group(1)) if top else None,
        average=bool(_AVERAGE.search(words)),
        least=bool(_LEAST.search(words)),
        request_id=str(UUID(ids[0])) if ids else None,
        unknown=tuple({one.word: one for one in found.unknown}.values()),
        odd_period=bool(_ODD_PERIOD.search(words)),
    )
    return replace(asked, intent=next((one.name for one in INTENTS if _fits(one, words, asked)), None))


def _fits(intent: Intent, words: str, asked: Question) -> bool:
    if not all(getattr(asked, slot) for slot in intent.needs) or any(getattr(asked, slot) for slot in intent.without):
        return False
    return any(re.search(pattern, words) for pattern in intent.patterns)


def _first(table: dict[str, str], words: str) -> str | None:
    """The entry whose word comes first; "who" gives way to a thing that is named ("who used which model")."""
    hits = [
        (bool(re.fullmatch("who[a-z]*", match.group())), match.start(), name)
        for name, pattern in table.items()
        if (match := re.search(rf"\b(?:{pattern})\b", words))
    ]
    return min(hits)[2] if hits else None


def _tokens(text: str) -> tuple[str, dict[str, int]]:
    found: dict[str, int] = {}
    for match in _TOKENS.finditer(text):
        kind = (match.group(3) or match.group(4) or "total").replace("prompt", "input").replace("completion", "output")
        kind = {"in": "input", "out": "output"}.get(kind, kind)
        found[kind] = _scaled(match.group(1), match.group(2))
    # "100 tokens" of a question for a price are none of a number of calls.
    return _TOKENS.sub(" tokens ", text), found


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return _scaled(match.group(1), match.group(2)) if match and match.group(1) else None


def _scaled(digits: str, scale: str | None) -> int:
    whole, _, part = digits.replace(",", "").partition(".")
    factor = _SCALE.get(scale or "", 1)
    value = int(whole[:12]) * factor + (int(part[:6] or 0) * factor // 10 ** len(part[:6]) if part else 0)
    return min(value, _MOST_CALLS)
