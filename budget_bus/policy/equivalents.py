"""Which models an operator holds to be equal in use, so that decisions can suggest a cheaper one."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

from budget_bus.errors import FieldError, Rejected

MAX_GROUPS = 200
MIN_MODELS, MAX_MODELS = 2, 20  # in one group
_MAX_NAME = 200  # characters, as of a name on the wire

_FORM = 'a list of lists such as [["openai/gpt-4o", "anthropic/claude-sonnet-4-5"]]'


def parse_equivalents(raw: Any, *, provider_name: Callable[[str], str] = str) -> list[list[str]]:
    """
    Read groups of "provider/model". A model's name may hold further slashes; its case matters, outer spaces do not.

    *provider_name* gives a provider's stored name: calls carry it, so an alias would stand in for nothing.

    Returns:
        The groups in one spelling, which is read again as itself.

    Raises:
        Rejected: names `value`, the place in it that is wrong, and what it may be.
    """
    if not isinstance(raw, list) or not all(isinstance(group, list) for group in raw):
        raise _wrong(f"must be {_FORM}")
    if len(raw) > MAX_GROUPS:
        raise _wrong(f"has {len(raw)} groups; at most {MAX_GROUPS} are kept")
    seen: dict[str, str] = {}
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
        groups.append(group)
    return groups


def _model(where: str, raw: Any, provider_name: Callable[[str], str]) -> str:
    provider, slash, model = raw.partition("/") if isinstance(raw, str) else ("", "", "")
    if not slash:
        raise _wrong(f'{where} must be "provider/model", such as "openai/gpt-4o"')
    return f"{provider_name(_name(where, provider, 'a provider'))}/{_name(where, model, 'a model')}"


def _name(where: str, raw: str, what: str) -> str:
    # The same bounds as a name on the wire: what a call cannot carry, nothing could stand in for.
    name = raw.strip()
    if not 1 <= len(name) <= _MAX_NAME or any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        raise _wrong(f"{where}: {what}'s name has 1 to {_MAX_NAME} characters and no control characters")
    return name


def _wrong(message: str) -> Rejected:
    return Rejected("invalid value", [FieldError("value", message)])
