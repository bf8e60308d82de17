"""What is proposed to be other than it was: limits, prices, models, service tiers, caching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from budget_bus.policy.budget import LimitSpec
from budget_bus.policy.scope import Scope
from budget_bus.providers.own import OwnPrice


@dataclass(frozen=True, slots=True)
class Swap:
    """Calls of a scope go to another model, of a stored provider name, with the tokens that they had."""

    calls: Scope
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class TierChange:
    """Calls of a scope are made in another service tier, such as batch."""

    calls: Scope
    service_tier: str


@dataclass(frozen=True, slots=True)
class Caching:
    """
    Of what calls of a scope sent neither from a cache nor to one, so many percent would have been read from it, and so
    many written to it; each call's share is rounded down to whole tokens.
    """

    calls: Scope
    read_percent: int
    write_percent: int = 0


@dataclass(frozen=True, slots=True)
class Proposal:
    """
    What to replay with; nothing of it: the past as it was.

    Of swaps, tiers and caching the first whose scope admits a call, as it was made, applies to it. `prices` hold from
    their `effective_from` on. `limits` replaces budgets in force and adds those of unknown ids; `removed` are left out.
    With `ask_unchecked` each event that no check was asked for is decided as if one had been, for just what it used.
    """

    swaps: tuple[Swap, ...] = ()
    tiers: tuple[TierChange, ...] = ()
    caching: tuple[Caching, ...] = ()
    prices: tuple[OwnPrice, ...] = ()
    limits: Mapping[UUID, LimitSpec] = field(default_factory=dict)
    removed: frozenset[UUID] = frozenset()
    ask_unchecked: bool = False

    @property
    def is_nothing(self) -> bool:
        """Whether the past is replayed as it was."""
        return self == Proposal()
