"""From a span of the past to ranked suggestions, each with what two replays differ by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice

import asyncpg

from budget_bus.consumers.prices import refresh_prices
from budget_bus.errors import FieldError, Rejected
from budget_bus.insight.optimising import capacity, cheaper
from budget_bus.insight.optimising.cheaper import Evidence
from budget_bus.insight.optimising.measuring import measure
from budget_bus.insight.optimising.suggestion import Kind, Suggestion
from budget_bus.insight.replay import Proposal, replay
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.providers.prices import PriceBook
from budget_bus.store import config, optimising, reads, replays
from budget_bus.store.catalogue import read_budgets

MAX_ROWS = 500_000  # of the ledger, which is read once for all candidates and once for all that is suggested together
MOST_LIMITS = 5  # suggestions of each kind about limits, each of which takes a replay of its own

_GROUPS = ("component", "provider", "model", "task_type")
_NO_EQUIVALENTS = (
    "No models are named as equal in use, so no cheaper one is suggested: budget config set equivalents"
    ' \'[["openai/gpt-4o", "openai/gpt-4o-mini"]]\' names them, also_consider only for this question.'
)


class Goal(StrEnum):
    """What to look for: money, or calls that need not have been refused."""

    COST = "cost"
    CAPACITY = "capacity"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for, and what whoever asks knows: models that are good enough, task types that can wait."""

    goal: Goal | None = None
    also_consider: Sequence[Sequence[str]] = ()
    deferrable: Sequence[str] = ()


@dataclass(slots=True)
class Advice:
    """
    Suggestions, those that save most first. `total_saving` is what all that make calls cheaper save together, by a
    replay of its own: two of them may be about the same calls, so it is not their sum. `total_cost` is what was spent.
    """

    suggestions: list[Suggestion] = field(default_factory=list)
    total_saving: int = 0
    total_cost: int = 0
    notes: list[str] = field(default_factory=list)


async def optimise(pool: asyncpg.Pool, prices: PriceBook, *, start: datetime, end: datetime, wish: Wish) -> Advice:
    """
    What would have saved money in `[start, end)`, or would have let calls pass that were refused.

    Raises:
        Rejected: the span has more than MAX_ROWS calls.
    """
    advice = Advice()
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        await refresh_prices(connection, prices)
        rows = await replays.count(connection, start, end)
        if rows > MAX_ROWS:
            raise _too_many(rows)
        evidence = await _evidence(connection, prices, start, end, wish)
        pressure = capacity.Pressure.of(
            evidence.budgets,
            await optimising.taken(connection, start, end),
            await optimising.refused(connection, start, end),
        )
        advice.total_cost = evidence.cost
        if wish.goal is not Goal.CAPACITY:
            await _cheapen(connection, advice, evidence, start)
    if wish.goal is not Goal.COST:
        await _fit(pool, advice, evidence, pressure, start)
    order = list(Kind)
    advice.suggestions.sort(key=lambda one: (-one.saving, order.index(one.kind), one.title))
    advice.notes = _notes(advice, evidence, wish, days=(end - start).days)
    return advice


async def _evidence(
    connection: asyncpg.Connection, prices: PriceBook, start: datetime, end: datetime, wish: Wish
) -> Evidence:
    sums = await reads.usage(connection, start, end, group_by=_GROUPS, filters={})
    named = (await config.values(connection, ["equivalents"])).get("equivalents", [])
    repeated = await optimising.repeated(
        connection, start, end, within=cheaper.CACHE_LIFE, least_tokens=cheaper.LEAST_CACHED_TOKENS
    )
    return Evidence(
        calls=cheaper.calls_of(sums),
        cost=sum(row.cost_nanos for row in sums if row.currency == PRICE_CURRENCY),
        repeated=repeated,
        equivalents=named,
        also_consider=wish.also_consider,
        deferrable=wish.deferrable,
        budgets=await read_budgets(connection),
        prices=prices,
        end=end,
    )


async def _cheapen(connection: asyncpg.Connection, advice: Advice, evidence: Evidence, start: datetime) -> None:
    """Add what makes calls cheaper, and what all of it saves together."""

    async def measured(proposals: Sequence[Proposal]) -> list[int | None]:
        return await measure(connection, evidence.prices, start=start, end=evidence.end, proposals=proposals)

    candidates = [*cheaper.swaps(evidence), *cheaper.caching(evidence), *cheaper.batches(evidence)]
    if not candidates:
        return
    savings = await measured([one.proposal for one in candidates])
    known = [one.measured(saving) for one, saving in zip(candidates, savings, strict=True) if saving is not None]
    advice.suggestions += cheaper.best_of_each(known)
    (together,) = await measured([cheaper.combined(advice.suggestions)])
    advice.total_saving = together or 0


async def _fit(
    pool: asyncpg.Pool, advice: Advice, evidence: Evidence, pressure: capacity.Pressure, start: datetime
) -> None:
    """Add what is to be said about limits."""
    raised = list(islice(capacity.raises(pressure), MOST_LIMITS))
    cut = await asyncio.to_thread(lambda: list(islice(capacity.reallocations(pressure), MOST_LIMITS)))
    lowered = list(islice(capacity.lowerings(pressure), MOST_LIMITS))
    for one in (*raised, *cut, *lowered):
        outcome = await replay(pool, evidence.prices, start=start, end=evidence.end, proposal=one.proposal)
        saving = outcome.total.saved_nanos
        # A lowered limit that would have refused anything was needed after all.
        if one.kind is not Kind.LOWER_LIMIT or saving == 0:
            advice.suggestions.append(one.measured(saving))


def _notes(advice: Advice, evidence: Evidence, wish: Wish, *, days: int) -> list[str]:
    if not evidence.calls:
        return [f"Nothing was recorded in these {days} days, so there is nothing to go by."]
    notes = []
    if wish.goal is not Goal.CAPACITY and not evidence.equivalents and not wish.also_consider:
        notes.append(_NO_EQUIVALENTS)
    if without := cheaper.without_batch_price(evidence):
        notes.append(f"No batch price is known of {', '.join(without)}: budget prices set has --service-tier batch.")
    if not advice.suggestions:
        notes.append("Nothing was found that would have saved anything.")
    return notes


def _too_many(rows: int) -> Rejected:
    message = f"span {rows:,} calls, of which at most {MAX_ROWS:,} are replayed at once; take fewer"
    return Rejected("too many calls", [FieldError("days", message)])


def share_percent(saving: int, cost: int) -> str:
    """How much of *cost* a saving is, in percent with one decimal, rounded to zero."""
    if not cost:
        return "0.0"
    tenths = abs(saving) * 1000 // cost
    return f"{'-' if saving < 0 and tenths else ''}{tenths // 10}.{tenths % 10}"
