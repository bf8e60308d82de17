"""The run-time settings: what each is called, what it may be, and what it is when nobody has set it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from budget_bus.errors import FieldError, NotFound, Rejected
from budget_bus.insight.breaker import DEFAULT_PAUSE_S, Breaker
from budget_bus.policy.budget import Policy
from budget_bus.policy.equivalents import parse_equivalents
from budget_bus.providers.names import canonical_provider
from budget_bus.settings import Settings

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 60, 604_800


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """
    One run-time setting.

    *read* takes the JSON that an operator gave and returns the JSON that is kept, or raises `Rejected` naming `value`.
    *setting* is the field of the settings that holds where nothing was set at run time; without one it is *default*.
    """

    name: str
    description: str
    read: Callable[[Any], Any]
    default: Any
    setting: str | None = None

    def unset(self, settings: Settings) -> tuple[Any, Literal["default", "setting"]]:
        """The value without one of run time, and where it is from."""
        if self.setting is None or self.setting not in settings.model_fields_set:
            return self.default, "default"
        return getattr(settings, self.setting), "setting"


def read_policy(raw: Any) -> str:
    """
    A policy's name, in any case.

    Raises:
        Rejected: names `value` and the policies.
    """
    name = raw.strip().upper() if isinstance(raw, str) else raw
    if name not in tuple(Policy):
        raise Rejected("invalid value", [FieldError("value", f"must be one of {', '.join(Policy)}")])
    return Policy(name).value


def read_equivalents(raw: Any) -> list[list[str]]:
    """
    Groups of equivalent models, with the stored names of their providers.

    Raises:
        Rejected: as `parse_equivalents`.
    """
    return parse_equivalents(raw, provider_name=canonical_provider)


def read_breaker(raw: Any) -> str:
    """
    What trips the breaker.

    Raises:
        Rejected: names `value` and what it may be.
    """
    name = raw.strip().lower() if isinstance(raw, str) else raw
    if name not in tuple(Breaker):
        raise Rejected("invalid value", [FieldError("value", f"must be one of {', '.join(Breaker)}")])
    return Breaker(name).value


def read_pause_s(raw: Any) -> int:
    """
    Whole seconds from a minute to a week.

    Raises:
        Rejected: names `value` and the bounds.
    """
    if isinstance(raw, bool) or not isinstance(raw, int) or not _SHORTEST_PAUSE_S <= raw <= _LONGEST_PAUSE_S:
        message = f"must be whole seconds from {_SHORTEST_PAUSE_S} to {_LONGEST_PAUSE_S}, such as 900"
        raise Rejected("invalid value", [FieldError("value", message)])
    return raw


# A further key is one more entry here. What the books keep under other names is nobody's to set.
KEYS: Mapping[str, Key] = {
    key.name: key
    for key in (
        Key(
            name="enforcement_level",
            description="The policy of limits that name none, at once: IGNORE, WARN, SOFT_LIMIT or HARD_LIMIT.",
            read=read_policy,
            default=Settings.model_fields["enforcement_level"].default,
            setting="enforcement_level",
        ),
        Key(
            name="equivalents",
            description='Which models are equal in use, as groups of "provider/model"; decisions suggest the cheaper.',
            read=read_equivalents,
            default=[],
        ),
        Key(
            name="breaker",
            description="Which anomalies pause their scope by themselves: off, velocity, loop or both.",
            read=read_breaker,
            default=Breaker.OFF.value,
        ),
        Key(
            name="breaker_pause_s",
            description="For how many seconds the breaker pauses what it trips on.",
            read=read_pause_s,
            default=DEFAULT_PAUSE_S,
        ),
    )
}


def find_key(name: str) -> Key:
    """
    A run-time setting by its name.

    Raises:
        NotFound: there is none; the detail lists those that there are.
    """
    if name not in KEYS:
        raise NotFound(f"no run-time setting {name!r}; there are {', '.join(KEYS)}")
    return KEYS[name]
