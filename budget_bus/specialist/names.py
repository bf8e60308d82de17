"""The names in the books, how a question refers to them, and what was probably meant by one that is not there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Final

from budget_bus.mcp.tools import Tools
from budget_bus.providers.names import canonical_provider
from budget_bus.specialist.grammar import DIMENSIONS
from budget_bus.specialist.words import BEFORE_NAMES, is_known

KINDS: Final = ("component", "model", "provider", "user", "task_type", "budget")
REMEMBERED: Final = timedelta(days=90)
_ALIKE: Final = 0.7
_LONGER: Final = 3
_MOST_COMPARED: Final = 12  # words of a question, each with every name that is like it
_WORD = re.compile(r"(?<![\w'])[^\W_][\w.:/@-]*(?<![.:/-])", re.UNICODE)
_QUOTED = re.compile(r"[\"“”`]([^\"“”`]{1,200})[\"“”`]|(?<!\w)'([^']{1,200})'(?!\w)")
_PART = re.compile(r"[^\W_]+", re.UNICODE)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A word that stands where a name should, or that looks like one of *meant*."""

    word: str
    meant: tuple[str, ...]
    kind: str | None = None


@dataclass(slots=True)
class Found:
    """The names of a question, by kind, and its text without them."""

    names: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    unknown: list[Unknown] = field(default_factory=list)
    rest: str = ""


@dataclass(frozen=True)
class Names:
    """The names of each kind, most used first."""

    of: Mapping[str, Sequence[str]]

    def find(self, text: str) -> Found:
        """The names in *text*; the whole ones first, then parts of a model's, then what is unknown."""
        found = Found(rest=text.replace("\u2019", "'"))
        self._quoted(found)
        self._whole(found)
        self._parts(found)
        self._unknown(found)
        return found

    def _quoted(self, found: Found) -> None:
        for match in _QUOTED.finditer(found.rest):
            name = match.group(1) or match.group(2)
            if not self._take(found, name):
                found.unknown.append(Unknown(name, self._alike(name)))
        found.rest = _QUOTED.sub(lambda match: " " * len(match.group()), found.rest)

    def _take(self, found: Found, name: str, kinds: Sequence[str] = KINDS) -> bool:
        for kind in kinds:
            known = next((one for one in self.of.get(kind, ()) if one.lower() == name.lower()), None)
            if known is not None:
                if known not in found.names[kind]:
                    found.names[kind].append(known)
                return True
        return False

    def _whole(self, found: Found) -> None:
        # Spaces in a name match any in the text; a name that is a word of ours counts only after what it is.
        every = {name.lower(): kind for kind in reversed(KINDS) for name in self.of.get(kind, ())}
        lower = found.rest.lower()
        for name in sorted((name for name in every if name in lower), key=len, reverse=True):
            pattern = re.compile(rf"(?<![\w-]){re.escape(name)}(?:'?s)?(?![\w-]|\.\w)", re.IGNORECASE)
            for match in pattern.finditer(found.rest):
                before = found.rest[: match.start()].lower()
                kind = _stated(before)
                if kind is None and (is_known(name) or name.isdigit()):
                    continue
                self._take(found, name, [kind] if kind and name in map(str.lower, self.of.get(kind, ())) else KINDS)
                found.rest = found.rest[: match.start()] + " " * len(match.group()) + found.rest[match.end() :]

    def _parts(self, found: Found) -> None:
        for match in _WORD.finditer(found.rest):
            word = match.group().lower().removesuffix("'s")
            models = self._models_with(word) if not is_known(word) and not word.isdigit() else []
            provider = "" if is_known(word) else canonical_provider(word)
            if models:
                found.names["model"] += [one for one in models if one not in found.names["model"]]
            elif provider in self.of.get("provider", ()):
                found.names["provider"].append(provider)
            else:
                continue
            found.rest = found.rest[: match.start()] + " " * len(match.group()) + found.rest[match.end() :]

    def _models_with(self, word: str) -> list[str]:
        wanted = _PART.findall(word)
        bare = "".join(wanted)  # gpt4o is gpt-4o
        parts = {name: _PART.findall(name.lower()) for name in self.of.get("model", ())}
        return [name for name, own in parts.items() if wanted and (_within(wanted, own) or "".join(own) == bare)]

    def _unknown(self, found: Found) -> None:
        compared = 0
        for match in _WORD.finditer(found.rest):
            word = match.group().lower().removesuffix("'s")
            if is_known(word) or word[0].isdigit() or len(word) < 2:
                continue
            compared += 1
            if compared > _MOST_COMPARED:
                return
            before = found.rest[: match.start()].lower()
            meant = self._alike(word) if len(word) > 2 else ()
            if meant or BEFORE_NAMES.search(before):
                found.unknown.append(Unknown(match.group(), meant, _stated(before)))

    @cached_property
    def _spellings(self) -> Mapping[str, str]:
        """What may be misspelt -> the name: the names themselves, and the parts of a model's."""
        found: dict[str, str] = {}
        for kind in reversed(KINDS):
            for name in self.of.get(kind, ()):
                parts = _PART.findall(name.lower()) if kind == "model" else []
                found |= {part: name for part in parts if len(part) > 3 and not part.isdigit()}
                found[name.lower()] = name
        return found

    def _alike(self, word: str) -> tuple[str, ...]:
        # A slip rarely moves the first letter far or changes the length much; all names would take seconds.
        wanted = word.lower()
        like = [one for one in self._spellings if wanted[0] in one[:2] and abs(len(one) - len(wanted)) <= _LONGER]
        close = get_close_matches(wanted, like, n=3, cutoff=_ALIKE)
        return tuple(dict.fromkeys(self._spellings[one] for one in close))


def _stated(before: str) -> str | None:
    """The kind of name that the words just before it say."""
    for kind, pattern in DIMENSIONS.items():
        if re.search(rf"\b(?:{pattern})\s+(?:(?:named|called)\s+)?$", before) and not re.search(
            r"\bwho\w*\s+$", before
        ):
            return kind
    return "budget" if re.search(r"\bbudget (?:named|called)\s+$", before) else None


def _within(wanted: Sequence[str], parts: Sequence[str]) -> bool:
    return any(list(parts[at : at + len(wanted)]) == list(wanted) for at in range(len(parts) - len(wanted) + 1))


async def names_of(tools: Tools, now: datetime) -> Names:
    """
    The names that were used lately, and those that limits name.

    Raises:
        ToolError: the service refuses, or is away.
    """
    start = (now - REMEMBERED).replace(minute=0, second=0, microsecond=0)
    span = {"start_date": start.isoformat(), "end_date": now.isoformat()}
    found: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for group_by in (["component", "provider", "model"], ["user", "task_type"]):
        told = await tools.get_usage(group_by=group_by, **span)  # type: ignore[arg-type]
        for group in (told.structured_content or {})["groups"]:
            for kind, name in group["key"].items():
                if name:
                    found[kind][name] = found[kind].get(name, 0) + group["requests"]
    limits = await tools.list_limits()
    for budget in (limits.structured_content or {})["items"]:
        found["budget"].setdefault(budget["name"], 0)
        for kind in KINDS[:-1]:
            for name in _named(budget["scope"].get(kind)):
                found[kind].setdefault(name, 0)
    return Names({kind: sorted(names, key=lambda one, n=names: -n[one]) for kind, names in found.items()})  # type: ignore[misc]


def _named(rule: Any) -> list[str]:
    names = rule["not"] if isinstance(rule, Mapping) else rule
    return [one for one in ([names] if isinstance(names, str) else names or []) if "*" not in one]
