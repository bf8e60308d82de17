"""What candidates would have saved: roughly for all of them at once, and by a replay for those that promise most."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from budget_bus.consumers.prices import refresh_prices
from budget_bus.errors import Rejected
from budget_bus.insight.optimising.suggestion import Suggestion
from budget_bus.insight.replay import Caching, Proposal, Swap, TierChange
from budget_bus.insight.replay.costs import Costing
from budget_bus.insight.replay.engine import used_of
from budget_bus.insight.replay.outcome import Compared, Outcome
from budget_bus.insight.replay.replaying import replay_span
from budget_bus.policy.budget import Policy
from budget_bus.policy.scope import Call, Scope
from budget_bus.providers.prices import PriceBook
from budget_bus.store import optimising, replays
from budget_bus.store.catalogue import read_budgets
from budget_bus.store.replays import Span


@dataclass(slots=True)
class Replays:
    """Replays of one snapshot, all against the one of the past as it was; the connection is in its transaction."""

    connection: asyncpg.Connection
    prices: PriceBook
    span: Span
    default_policy: Policy
    plain: bool  # no budget is in force and none refused anything, so that costs are all that can differ
    _as_it_was: Outcome | None = None

    @classmethod
    async def of(
        cls, connection: asyncpg.Connection, prices: PriceBook, start: datetime, end: datetime, default_policy: Policy
    ) -> Replays:
        """Of a span of time."""
        await refresh_prices(connection, prices)
        span = await replays.span(connection, start, end)
        plain = not await read_budgets(connection) and not await optimising.denied(connection, start, end)
        return cls(connection, prices, span, default_policy, plain)

    async def estimated(self, candidates: Sequence[Suggestion]) -> list[Suggestion]:
        """*candidates* that have a price, with what they save if budgets decide as they did."""
        savings = await self._costs([one.proposal for one in candidates])
        return [one.measured(saving) for one, saving in zip(candidates, savings, strict=True) if saving is not None]

    async def measured(self, one: Suggestion) -> Suggestion | None:
        """A suggestion with what two replays differ by; None if one of its calls would have no price."""
        if self.plain and not one.proposal.limits:
            return one  # as it was estimated
        try:
            was, would_be = await self.as_it_was(), await self._replay(one.proposal)
        except Rejected:
            return None
        return one.measured(_difference(was, would_be), _told(was, would_be) if one.proposal.limits else "")

    async def saving(self, proposal: Proposal) -> int:
        """What the replays of the past as it was and of *proposal* differ by, in nanos."""
        if self.plain:
            return (await self._costs([proposal]))[0] or 0
        return _difference(await self.as_it_was(), await self._replay(proposal))

    async def as_it_was(self) -> Outcome:
        """The replay without a proposal."""
        if self._as_it_was is None:
            self._as_it_was = await self._replay(Proposal())
        return self._as_it_was

    async def _replay(self, proposal: Proposal) -> Outcome:
        return await replay_span(self.connection, self.prices, self.span, proposal, self.default_policy)

    async def _costs(self, proposals: Sequence[Proposal]) -> list[int | None]:
        span = self.span
        return await measure(self.connection, self.prices, start=span.start, end=span.end, proposals=proposals)


def _difference(was: Outcome, would_be: Outcome) -> int:
    return was.total.simulated.cost_nanos - would_be.total.simulated.cost_nanos


def _told(was: Outcome, would_be: Outcome) -> str:
    allowed = would_be.checks.allowed - was.checks.allowed
    refused = would_be.checks.refused - was.checks.refused
    return f"Replayed, {allowed:,} checks that were denied are allowed, and {refused:,} that were allowed are denied."


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
    For each of *proposals*, what the calls that were made cost, less what they would have cost with it, in nanos; None
    if one would go to a model without a price.

    Each changes what calls cost and nothing else, with scopes of component, provider, model and task type. Where no
    budget refuses anything, that is what two replays differ by: calls that a proposal is not about are equal in both,
    and are left out of both sums. The connection is in a transaction.
    """
    measured = [Measured(Costing(one, prices), _scopes(one)) for one in proposals]
    about: dict[Call, list[Measured]] = {}
    async for rows in optimising.used(connection, start, end):
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
