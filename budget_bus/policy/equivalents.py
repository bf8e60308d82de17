"""Which models an operator holds to be equal in use, so that a cheaper one can be suggested for another."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from budget_bus.errors import FieldError, Rejected

MAX_GROUPS = 200
MIN_MODELS, MAX_MODELS = 2, 20  # in one group
_MAX_NAME = 200  # characters, as of a name on the wire

_FORM = 'a list of lists such as [["openai/gpt-4o", "anthropic/claude-sonnet-4-5"]]'


class Model(NamedTuple):
    """A model and its provider, by its stored name."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Equivalents:
    """Groups of models that stand in for each other; a model is in at most one."""

    groups: tuple[tuple[Model, ...], ...] = ()

    def of(self, provider: str, model: str) -> tuple[Model, ...]:
        """What may stand in for a model (its provider by the stored name), in the operator's order, without itself."""
        asked = Model(provider, model)
        group = next((group for group in self.groups if asked in group), ())
        return tuple(other for other in group if other != asked)

    def to_json(self) -> list[list[str]]:
        """The one spelling of these groups, which `parse_equivalents` reads again."""
        return [[str(model) for model in group] for group in self.groups]


def parse_equivalents(raw: Any, *, provider_name: Callable[[str], str] = str) -> Equivalents:
    """
    Read groups of "provider/model". A model's name may hold further slashes; its case matters, outer spaces do not.

    *provider_name* gives a provider's stored name: calls carry it, so an alias would stand in for nothing.

    Raises:
        Rejected: names `value`, the place in it that is wrong, and what it may be.
    """
    if not isinstance(raw, list) or not all(isinstance(group, list) for group in raw):
        raise _wrong(f"must be {_FORM}")
    if len(raw) > MAX_GROUPS:
        raise _wrong(f"has {len(raw)} groups; at most {MAX_GROUPS} are kept")
    seen: dict[Model, str] = {}
    groups = []
    for number, names in enumerate(raw):
        if not MIN_MODELS <= len(names) <= MAX_MODELS:
            raise _wrong(f"group [{number}] has {len(names)} models; a group has {MIN_MODELS} to {MAX_MODELS}")
        group = []
        for index, name in enumerate(names):
            where = f"[{number}][{index}]"
            model = _model(where, name, provider_name)
            if model in seen:
                raise _wrong(f"{where}: {model} is at {seen[model]} already; a model is in one group, once")
            seen[model] = where
            group.append(model)
        groups.append(tuple(group))
    return Equivalents(tuple(groups))


def _model(where: str, raw: Any, provider_name: Callable[[str], str]) -> Model:
    provider, slash, model = raw.partition("/") if isinstance(raw, str) else ("", "", "")
    if not slash:
        raise _wrong(f'{where} must be "provider/model", such as "openai/gpt-4o"')
    return Model(provider_name(_name(where, provider, "a provider")), _name(where, model, "a model"))


def _name(where: str, raw: str, what: str) -> str:
    # The same bounds as a name on the wire: what a call cannot carry, nothing could stand in for.
    name = raw.strip()
    if not 1 <= len(name) <= _MAX_NAME or any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        raise _wrong(f"{where}: {what}'s name has 1 to {_MAX_NAME} characters and no control characters")
    return name


def _wrong(message: str) -> Rejected:
    return Rejected("invalid value", [FieldError("value", message)])
