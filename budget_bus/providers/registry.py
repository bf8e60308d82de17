"""All providers: ours, and those of other packages by their entry points. A broken one is left out, not fatal."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import structlog

from budget_bus.providers.adapters import BUILT_IN
from budget_bus.providers.adapters.compatible import Unknown
from budget_bus.providers.base import BaseProvider

GROUP: Final = "budget_bus.providers"
MAX_NAME: Final = 200

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger()

_SEPARATORS = re.compile(r"[\s._\-]+")


@dataclass(frozen=True)
class Registry:
    """
    The providers of this process by stored name; `aliases` are squashed names -> stored name, `origins` say where
    each comes from, and `broken` says of each entry point that was left out why.
    """

    providers: dict[str, BaseProvider]
    aliases: dict[str, str]
    origins: dict[str, str]
    broken: dict[str, str]


@lru_cache(maxsize=1)
def registry() -> Registry:
    """
    The providers of this process, found once.

    Ours are not entry points themselves, so that they are there in a tree that was never installed, and so that no
    other package can stand in for one of them.
    """
    return load(BUILT_IN, entry_points(group=GROUP))


def load(built_in: Iterable[BaseProvider], found: Iterable[EntryPoint]) -> Registry:
    """
    Put ours and the entry points' together. What cannot be loaded, is no provider, or claims a name that is taken
    (the first by the order of their names has it) is left out, logged, and listed as broken.
    """
    made = Registry({}, {}, {}, {})
    for provider in built_in:
        _add(made, provider, "budget_bus")
    for entry in sorted(found, key=lambda entry: (entry.name, entry.value)):
        label = f"{entry.name} = {entry.value}"
        try:
            _add(made, _made_by(entry), _package(entry))
        # Anything can happen while foreign code is imported, sys.exit included; the service must start all the same.
        except (Exception, SystemExit) as error:
            made.broken[label] = f"{type(error).__name__}: {error}"
            log.error("a provider's plugin was left out", entry_point=label, reason=made.broken[label])
    return made


def provider_of(name: str) -> BaseProvider:
    """The adapter of a provider by any of its names; an unknown one has the defaults of a remote provider."""
    stored = stored_name(name)
    return registry().providers.get(stored) or Unknown(stored)


def stored_name(name: str) -> str:
    """The one name under which a provider is stored; see `canonical_provider`."""
    plain = plain_name(name)
    return registry().aliases.get(squashed(plain), plain)


def ask(question: Callable[Concatenate[Any, P], R], provider: BaseProvider, /, *about: P.args, **more: P.kwargs) -> R:
    """
    Call the method of *provider* that BaseProvider's *question* names; one that raises is logged and answered for by
    BaseProvider. An adapter of another package must not stop the consumers, which ask about every event.
    """
    try:
        answer: R = getattr(provider, question.__name__)(*about, **more)
    except Exception:
        log.exception("a provider's adapter failed", provider=provider.name, asked=question.__name__)
        return question(provider, *about, **more)
    return answer


def plain_name(name: str) -> str:
    """*name* in lower case with single spaces, never longer than it was."""
    # U+0130 is the one character whose lower case is longer; a stored name must not outgrow the accepted one.
    return " ".join(name.replace("\u0130", "i").lower().split())


def squashed(name: str) -> str:
    """A plain name without what people separate its words with."""
    return _SEPARATORS.sub("", name)


def _made_by(entry: EntryPoint) -> BaseProvider:
    loaded = entry.load()
    provider = loaded() if inspect.isclass(loaded) else loaded
    if not isinstance(provider, BaseProvider):
        raise TypeError(f"{entry.value} is not a BaseProvider")
    return provider


def _add(made: Registry, provider: BaseProvider, origin: str) -> None:
    name = getattr(provider, "name", None)
    if not isinstance(name, str) or not name or len(name) > MAX_NAME or plain_name(name) != name:
        raise ValueError(
            f"{name!r} is no name: it must be in lower case with single spaces, of 1 to {MAX_NAME} characters"
        )
    keys = {squashed(plain_name(alias)) for alias in (name, *provider.aliases)}
    taken = sorted({made.aliases[key] for key in keys if key in made.aliases})
    if taken:
        raise ValueError(f"a name of {name} belongs to {', '.join(taken)} already")
    if not all(keys):
        raise ValueError(f"{name} has an alias without a letter")
    made.providers[name] = provider
    made.origins[name] = origin
    made.aliases.update(dict.fromkeys(keys, name))


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value.partition(":")[0]
