"""What is suggested, why, what it would have saved, and the one command that makes it so."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from budget_bus.insight.replay import Proposal
from budget_bus.policy.scope import Scope, parse_scope


class Kind(StrEnum):
    """What is suggested."""

    CHEAPER_MODEL = "cheaper_model"
    PROMPT_CACHING = "prompt_caching"
    BATCH_TIER = "batch_tier"
    REALLOCATION = "reallocation"
    RAISE_LIMIT = "raise_limit"
    LOWER_LIMIT = "lower_limit"


@dataclass(frozen=True, slots=True)
class Apply:
    """
    One command, and the same as one request. All are None where the change is the component's own to make: then the
    detail says what it has to change.
    """

    command: str | None = None
    method: str | None = None
    path: str | None = None
    body: Mapping[str, Any] | None = None


BY_THE_COMPONENT = Apply()


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """
    One change and what it would have saved: the past as it was, less the past with *proposal*, in nanos.

    *instead_of* is the same for suggestions of which only one can be followed.
    """

    kind: Kind
    title: str
    detail: str
    assumption: str
    scope: Scope
    proposal: Proposal
    apply: Apply = BY_THE_COMPONENT
    saving: int = 0
    instead_of: Any = None

    def measured(self, saving: int, told: str = "") -> Suggestion:
        """This suggestion with what a replay found, and has to tell besides."""
        return replace(self, saving=saving, detail=f"{self.detail} {told}".rstrip())


def scope_of(component: str, provider: str, model: str, task_type: str | None, task_types: Sequence[str]) -> Scope:
    """
    The calls of one component, model and task type; without one, those that have none of the component's *task_types*.
    """
    raw: dict[str, Any] = {"component": component, "provider": provider, "model": model}
    if task_type is not None:
        raw["task_type"] = task_type
    elif task_types:
        raw["task_type"] = {"not": list(task_types)}
    return parse_scope(raw)


def whose(component: str, task_type: str | None) -> str:
    """Whose calls they are, in words."""
    return f"{component}, {task_type}" if task_type else component


def command(*words: str) -> str:
    """A command line that a shell reads as these words."""
    return shlex.join(["budget", *words])


def scope_words(scope: Mapping[str, Any]) -> list[str]:
    """A scope as options of a command; nothing for everything."""
    return ["--scope", json.dumps(scope, ensure_ascii=False, separators=(",", ":"))] if scope else []
