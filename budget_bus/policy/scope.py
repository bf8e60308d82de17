"""Which calls a budget is about: any subset of a call's fields, each a name, any of a list, or none of a list."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from budget_bus.errors import FieldError, Rejected

FIELDS = ("component", "provider", "model", "tier", "task_type", "context_id", "user")
MAX_NAMES = 100


class Call(NamedTuple):
    """What of a model call decides which budgets it belongs to. Providers are stored names."""

    component: str
    provider: str
    model: str
    tier: str
    task_type: str | None = None
    context_id: str | None = None
    user: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """Any of *names*, or with *negated* none of them. A pattern may hold `*` where *globs* are allowed."""

    names: frozenset[str]
    negated: bool = False
    patterns: frozenset[str] = frozenset()

    def admits(self, value: str | None) -> bool:
        hit = value is not None and (value in self.names or any(_fits(value, p) for p in self.patterns))
        return hit is not self.negated

    def to_json(self) -> str | list[str] | dict[str, list[str]]:
        ordered = sorted(self.names | self.patterns)
        if self.negated:
            return {"not": ordered}
        return ordered[0] if len(ordered) == 1 else ordered


@dataclass(frozen=True, slots=True)
class Scope:
    """A budget's scope: every rule must admit the call. An empty scope is everything."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    tags: Mapping[str, Rule] = field(default_factory=dict)

    def admits(self, call: Call) -> bool:
        for name, rule in self.rules.items():
            if not rule.admits(getattr(call, name)):
                return False
        if self.tags:
            tags = dict(call.tags)
            return all(rule.admits(tags.get(name)) for name, rule in self.tags.items())
        return True

    def to_json(self) -> dict[str, Any]:
        """The one spelling of this scope: equal scopes give equal JSON."""
        out: dict[str, Any] = {name: self.rules[name].to_json() for name in FIELDS if name in self.rules}
        if self.tags:
            out["tags"] = {name: self.tags[name].to_json() for name in sorted(self.tags)}
        return out


def parse_scope(raw: Any, *, provider_name: Callable[[str], str] = str) -> Scope:
    """
    Read a scope as API.md writes it: `{"component": "rhetor", "model": ["gpt-4*"], "user": {"not": ["bot"]}}`.

    *provider_name* gives a provider's stored name: calls carry it, so a scope that holds an alias would match none.

    Raises:
        Rejected: names the field that is unknown or wrong and what it may be.
    """
    if not isinstance(raw, Mapping):
        raise _wrong("scope", 'must be an object such as {"component": "rhetor"}')
    rules: dict[str, Rule] = {}
    tags: dict[str, Rule] = {}
    for name, value in raw.items():
        if name == "tags":
            if not isinstance(value, Mapping):
                raise _wrong("scope.tags", "must be an object of tag names")
            tags = {_name("scope.tags", tag): _rule(f"scope.tags.{tag}", rule) for tag, rule in value.items()}
        elif name == "provider":
            rules[name] = _rule("scope.provider", value, rename=provider_name)
        elif name in FIELDS:
            rules[name] = _rule(f"scope.{name}", value, globs=name == "model")
        else:
            raise _wrong(f"scope.{name}", f"is not a field of a scope; it may be {', '.join(FIELDS)} or tags")
    return Scope(rules, tags)


def _rule(where: str, raw: Any, *, globs: bool = False, rename: Callable[[str], str] = str) -> Rule:
    negated = isinstance(raw, Mapping)
    if isinstance(raw, Mapping):
        if set(raw) != {"not"}:
            raise _wrong(where, 'an object here must be {"not": [...]}')
        raw = raw["not"]
    names = [raw] if isinstance(raw, str) else raw
    if not isinstance(names, list) or not names or len(names) > MAX_NAMES:
        raise _wrong(where, f'must be a name, a list of 1 to {MAX_NAMES} names, or {{"not": [...]}}')
    wanted = {rename(_name(where, name)) for name in names}
    patterns = frozenset(name for name in wanted if globs and "*" in name)
    return Rule(frozenset(wanted - patterns), negated, patterns)


def _name(where: str, raw: Any) -> str:
    # The same bounds as a name on the wire, so that what a scope says can be found there.
    name = raw.strip() if isinstance(raw, str) else ""
    if not 1 <= len(name) <= 200 or any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        raise _wrong(where, "names have 1 to 200 characters and no control characters")
    return name


def _fits(value: str, pattern: str) -> bool:
    """Whether *value* fits *pattern*, in which `*` is any text; linear, unlike a regular expression."""
    head, *middle, tail = pattern.split("*")
    if len(value) < len(head) + len(tail) or not (value.startswith(head) and value.endswith(tail)):
        return False
    at, end = len(head), len(value) - len(tail)
    for piece in middle:
        at = value.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def _wrong(where: str, message: str) -> Rejected:
    return Rejected("invalid scope", [FieldError(where, message)])
