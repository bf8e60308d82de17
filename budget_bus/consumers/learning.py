"""What components' calls lately put out, learnt from the ledger beside the decider's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import asyncpg
import structlog

from budget_bus.consumers.batch import Clock, utc_now
from budget_bus.store.outputs import Group, recent_p99

log = structlog.get_logger()

LEARNING_PERIOD_S = 60.0


class Outputs:
    """The 99th percentile of output tokens per component, stored provider name and model; empty until learnt."""

    def __init__(self, known: Mapping[Group, int] | None = None) -> None:
        self._known: Mapping[Group, int] = known or {}

    def p99(self, component: str, provider: str, model: str) -> int | None:
        """Output tokens that 99 of 100 recent calls stayed within, or None when too few are known."""
        return self._known.get((component, provider, model))

    def replace(self, known: Mapping[Group, int]) -> None:
        """Take *known* for all that is known."""
        self._known = known


async def keep_learning(
    pool: asyncpg.Pool,
    outputs: Outputs,
    stopping: asyncio.Event,
    *,
    clock: Clock = utc_now,
    period_s: float = LEARNING_PERIOD_S,
) -> None:
    """
    Refresh *outputs* at once and then every *period_s* seconds until *stopping*.

    Whatever the database says, what is known stays and it is asked again: a guess that is old is still a guess, and
    no check may fail for it.
    """
    while not stopping.is_set():
        try:
            outputs.replace(await recent_p99(pool, clock()))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            log.warning("learning of outputs is tried again", reason=f"{type(error).__name__}: {error}")
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), period_s)
