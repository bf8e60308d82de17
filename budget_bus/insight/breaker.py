"""The breaker: which anomalies pause their scope, and for how long, as the run-time settings say."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import asyncpg

from budget_bus.policy.scope import parse_scope
from budget_bus.store import config, pauses
from budget_bus.store.anomalies import Finding
from budget_bus.store.pauses import Kept

ACTOR = "breaker"
DEFAULT_PAUSE_S = 900


class Breaker(StrEnum):
    """What trips it."""

    OFF = "off"
    VELOCITY = "velocity"
    LOOP = "loop"
    BOTH = "both"


class Setting(NamedTuple):
    """As an operator has set it."""

    breaker: Breaker
    pause_s: int

    def covers(self, kind: str) -> bool:
        """Whether an anomaly of *kind* trips it; silence costs nothing, so it never does."""
        return kind == self.breaker or (self.breaker is Breaker.BOTH and kind in (Breaker.VELOCITY, Breaker.LOOP))


async def read_setting(connection: asyncpg.Connection) -> Setting:
    """What holds now."""
    values = await config.values(connection, ["breaker", "breaker_pause_s"])
    return Setting(Breaker(values.get("breaker", Breaker.OFF)), values.get("breaker_pause_s", DEFAULT_PAUSE_S))


async def trip(connection: asyncpg.Connection, found: Finding, *, pause_s: int) -> Kept:
    """Pause the scope of *found*; the transaction has the catalogue's lock alone."""
    until: datetime = found.at + timedelta(seconds=pause_s)
    scope = parse_scope(found.scope)
    kept, _ = await pauses.begin(
        connection, scope, reason=f"breaker: {found.reason}", actor=ACTOR, until=until, now=found.at
    )
    return kept
