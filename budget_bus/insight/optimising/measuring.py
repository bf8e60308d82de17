"""What candidates would have saved: the ledger is read once, and every call goes through those that are about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from budget_bus.errors import Rejected
from budget_bus.insight.replay import Caching, Proposal, Swap, TierChange
from budget_bus.insight.replay.costs import Costing
from budget_bus.insight.replay.outcome import Compared
from budget_bus.insight.replay.replaying import used_of
from budget_bus.policy.scope import Call, Scope
from budget_bus.providers.prices import PriceBook
from budget_bus.store import replays


@dataclass(slots=True)
class Measured:
    """One proposal and what it came to; `fault` says why it cannot be priced."""

    costing: Costing
    scopes: tuple[Scope, ...]
    compared: Compared = field(default_factory=Compared)
    fault: Rejected | None = None

    def touches(self, call: Call) -> bool:
        return any(scope.admits(call) for scope in self.scopes)


async def measure(
    connection: asyncpg.Connection,
    prices: PriceBook,
    *,
    start: datetime,
    end: datetime,
    proposals: Sequence[Proposal],
) -> list[int | None]:
    """
    For each of *proposals*, what `replay` finds for the past as it was less what it finds with it, in nanos; None if a
    call would go to a model without a price.

    Each changes what calls cost and nothing else, with scopes of component, provider, model and task type. Calls that a
    proposal is not about are equal in both replays, and are left out of both sums. The connection is in a transaction.
    """
    measured = [Measured(Costing(one, prices), _scopes(one)) for one in proposals]
    about: dict[Call, list[Measured]] = {}
    async for rows in replays.used(connection, start, end):
        await asyncio.to_thread(_count, measured, about, rows)
    return [None if one.fault else one.compared.saved_nanos for one in measured]


def _scopes(proposal: Proposal) -> tuple[Scope, ...]:
    changes: tuple[Swap | TierChange | Caching, ...] = (*proposal.swaps, *proposal.tiers, *proposal.caching)
    return tuple(one.calls for one in changes)


def _count(measured: Iterable[Measured], about: dict[Call, list[Measured]], rows: Sequence[Any]) -> None:
    for row in rows:
        used = used_of(row)
        # What scopes look at is few; contexts and users are many.
        key = used.call._replace(context_id=None, user=None, tags=())
        concerned = about.get(key)
        if concerned is None:
            concerned = about[key] = [one for one in measured if one.touches(key)]
        for one in concerned:
            if one.fault is None:
                try:
                    changed = one.costing.apply(used)
                except Rejected as fault:
                    one.fault = fault
                    continue
                one.compared.actual.add(used)
                one.compared.simulated.add(changed)
