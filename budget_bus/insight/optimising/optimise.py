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
from budget_bus.insight.optimising.measuring import Replays
from budget_bus.insight.optimising.suggestion import Kind, Suggestion
from budget_bus.policy.budget import Policy
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.providers.prices import PriceBook
from budget_bus.store import config, optimising, reads, replays
from budget_bus.store.catalogue import read_budgets

MAX_ROWS = 200_000  # calls and checks of a span
MAX_WORK = 1_000_000  # rows of all replays together, roughly: some 12,000 take a second
MOST_CHEAPER = 10  # suggestions that make calls cheaper, and
MOST_LIMITS = 3  # of each kind about limits

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

    @property
    def cheaper(self) -> list[Suggestion]:
        """Those that make calls cheaper, which `total_saving` is of."""
        return [one for one in self.suggestions if not one.proposal.limits]


async def optimise(
    pool: asyncpg.Pool,
    prices: PriceBook,
    *,
    start: datetime,
    end: datetime,
    wish: Wish,
    default_policy: Policy = Policy.WARN,
) -> Advice:
    """
    What would have saved money in `[start, end)`, or would have let calls pass that were refused.

    Candidates come from sums and are ranked by them; then those that promise most are replayed, all in one snapshot.
    *default_policy* is what budgets follow that have none of their own.

    Raises:
        Rejected: the span has more than MAX_ROWS calls and checks.
    """
    async with pool.acquire() as connection, connection.transaction(readonly=True):
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
    advice = Advice(total_cost=evidence.cost)
    cheap = [] if wish.goal is Goal.CAPACITY else _cheaper(evidence)
    # Seconds of a solver's time, which an open transaction must not wait for.
    limits = [] if wish.goal is Goal.COST else await asyncio.to_thread(_limits, pressure)
    most = max(3, MAX_WORK // max(1, 2 * rows))
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        measuring = await Replays.of(connection, prices, start, end, default_policy)
        await _cheapen(measuring, advice, cheap, most)
        await _fit(measuring, advice, limits[:most])
    order = list(Kind)
    advice.suggestions.sort(key=lambda one: (-one.saving, order.index(one.kind), one.title))
    advice.notes = _notes(advice, evidence, wish, days=(end - start).days)
    if skipped := max(0, len(limits) - most):
        advice.notes.append(
            f"{skipped} suggestions about limits were not replayed, for so many calls; take fewer days."
        )
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


def _cheaper(evidence: Evidence) -> list[Suggestion]:
    return [*cheaper.swaps(evidence), *cheaper.caching(evidence), *cheaper.batches(evidence)]


def _limits(pressure: capacity.Pressure) -> list[Suggestion]:
    kinds = (capacity.raises(pressure), capacity.reallocations(pressure), capacity.lowerings(pressure))
    return [one for kind in kinds for one in islice(kind, MOST_LIMITS)]


async def _cheapen(measuring: Replays, advice: Advice, candidates: Sequence[Suggestion], most: int) -> None:
    """Add what makes calls cheaper, and what all of it saves together."""
    if not candidates:
        return
    found = cheaper.best_of_each(await measuring.estimated(candidates))[: min(MOST_CHEAPER, most)]
    measured = [await measuring.measured(one) for one in found]
    advice.suggestions += [one for one in measured if one is not None and one.saving > 0]
    if advice.suggestions:
        advice.total_saving = await measuring.saving(cheaper.combined(advice.suggestions))


async def _fit(measuring: Replays, advice: Advice, candidates: Sequence[Suggestion]) -> None:
    """Add what is to be said about limits."""
    for one in candidates:
        measured = await measuring.measured(one)
        # A lowered limit that would have changed anything was needed after all.
        if measured is not None and (one.kind is not Kind.LOWER_LIMIT or measured.saving == 0):
            advice.suggestions.append(measured)


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
