"""Calls that could cost less: another model that is said to do as well, a cache for what repeats, the batch tier."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from budget_bus.insight.optimising.suggestion import (
    Apply,
    Kind,
    Suggestion,
    command,
    scope_of,
    scope_words,
    whose,
)
from budget_bus.insight.replay import Caching, Proposal, Swap, TierChange
from budget_bus.policy.budget import Budget, Policy, Unit
from budget_bus.policy.pricing import PriceStatus
from budget_bus.policy.scope import MAX_NAMES, Scope
from budget_bus.policy.windows import Period
from budget_bus.providers.prices import PriceBook
from budget_bus.store.optimising import Repeated
from budget_bus.store.reads import UsageSum

MAX_SWAPS = 60  # the most promising ones by their sums; each is replayed

# How long an input is kept in a cache, and how large it must be, where least is said of the first and most of the
# second: 5 minutes and, by model, 512 to 4,096 tokens at Anthropic (platform.claude.com/docs/en/build-with-claude/
# prompt-caching), 1,024 at OpenAI, up to 4,096 at Google (ai.google.dev/gemini-api/docs/caching), in November 2026.
CACHE_LIFE = timedelta(minutes=5)
LEAST_CACHED_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Calls:
    """What one component used of one model for one task type."""

    component: str
    provider: str
    model: str
    task_type: str | None
    requests: int
    input_tokens: int
    output_tokens: int

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"


def calls_of(sums: Iterable[UsageSum]) -> list[Calls]:
    """Sums that were grouped by component, provider, model and task type; those of other currencies added to them."""
    found: dict[tuple[str, str, str, str | None], list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in sums:
        key = row.key
        counts = found[key["component"] or "", key["provider"] or "", key["model"] or "", key["task_type"]]
        for i, count in enumerate((row.requests, row.input_tokens, row.output_tokens)):
            counts[i] += count
    return [Calls(*key, *counts) for key, counts in found.items()]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What candidates are made of: sums of a span of time that ends at *end*, and what stands in for what."""

    calls: Sequence[Calls]
    cost: int  # of all of them, in nanos
    repeated: Sequence[Repeated]
    equivalents: Sequence[Sequence[str]]  # groups of provider/model that the operator holds to be equal
    also_consider: Sequence[Sequence[str]]  # groups that whoever asks holds to be good enough
    deferrable: Sequence[str]  # task types that can wait for an answer
    budgets: Sequence[Budget]
    prices: PriceBook
    end: datetime

    def scope(self, component: str, provider: str, model: str, task_type: str | None) -> Scope:
        """The scope of one component, model and task type."""
        others = {one.task_type for one in self.calls if one.component == component and one.task_type}
        return scope_of(component, provider, model, task_type, sorted(others)[:MAX_NAMES])


def swaps(evidence: Evidence) -> list[Suggestion]:
    """For each component, model and task type every model that is named with it and listed at less."""
    found: list[tuple[int, Suggestion]] = []
    for calls in evidence.calls:
        for target, traded in _named_with(calls.name, evidence):
            less = _listed(evidence, calls.name, calls) - _listed(evidence, target, calls)
            if less > 0:
                found.append((less, _swap(evidence, calls, target, traded=traded)))
    found.sort(key=lambda one: -one[0])
    return [one for _, one in found[:MAX_SWAPS]]


def _named_with(name: str, evidence: Evidence) -> Iterator[tuple[str, bool]]:
    """Models that may stand in for *name*, and whether that is only whoever asks who says so."""
    seen = {name}
    for groups, traded in ((evidence.equivalents, False), (evidence.also_consider, True)):
        for group in groups:
            if name in group:
                yield from ((other, traded) for other in group if other not in seen)
                seen.update(group)


def _listed(evidence: Evidence, name: str, calls: Calls) -> int:
    """Roughly what *calls* cost with a model, in picos: only to see which replays are worth their time."""
    provider, _, model = name.partition("/")
    price = evidence.prices.price(provider, model, evidence.end)
    if price is None:
        return 0 if name == calls.name else 10**30
    return calls.input_tokens * price.input.base + calls.output_tokens * price.output.base


def _swap(evidence: Evidence, calls: Calls, target: str, *, traded: bool) -> Suggestion:
    provider, _, model = target.partition("/")
    scope = evidence.scope(calls.component, calls.provider, calls.model, calls.task_type)
    who = whose(calls.component, calls.task_type)
    said = (
        "You trade quality for it: only your question names the two together, not the setting `equivalents`"
        if traded
        else "The operator names the two as equal in use, in the setting `equivalents`"
    )
    return Suggestion(
        kind=Kind.CHEAPER_MODEL,
        title=f"{who}: {target} instead of {calls.name}",
        detail=(
            f"{calls.requests:,} calls of {who} went to {calls.name}. The command makes a budget of no requests for"
            " them, of policy SOFT_LIMIT: checks for the dearer model are answered `degrade`, with a reason that names"
            " the cheaper one. With HARD_LIMIT they would be denied instead."
        ),
        assumption=(
            f"{said}. The cheaper model is taken to need as many tokens as the dearer one did; prices are those of the"
            " time of each call."
        ),
        scope=scope,
        proposal=Proposal(swaps=(Swap(scope, provider, model),)),
        apply=_discourage(scope, f"{who}: use {target}", evidence.budgets),
        instead_of=(Kind.CHEAPER_MODEL, calls.component, calls.name, calls.task_type),
    )


def _discourage(scope: Scope, name: str, budgets: Iterable[Budget]) -> Apply:
    """A budget of no requests that only says so; never in the place of one that is there for something else."""
    raw, name = scope.to_json(), name[:200]
    taken = {
        budget.spec.period
        for budget in budgets
        if budget.spec.unit is Unit.REQUESTS and budget.spec.scope.to_json() == raw and budget.spec.limit > 0
    }
    period = next((p for p in (Period.DAILY, Period.WEEKLY, Period.MONTHLY, Period.HOURLY) if p not in taken), None)
    if period is None:
        return Apply()
    body = {"period": period.value, "unit": "requests", "limit": "0", "scope": raw,
            "policy": Policy.SOFT_LIMIT.value, "name": name}  # fmt: skip
    words = ["set-limit", period.value, "0", "--unit", "requests", *scope_words(raw), "--policy", "SOFT_LIMIT"]
    return Apply(command(*words, "--name", name), "POST", "/api/limits", body)


def caching(evidence: Evidence) -> list[Suggestion]:
    """For each group of calls that repeat their input and read nothing from a cache, the cache of their provider."""
    found = []
    for group in evidence.repeated:
        price = evidence.prices.price(group.provider, group.model, evidence.end)
        read = 100 * group.read_tokens // max(1, group.plain_tokens)
        written = -(-100 * group.written_tokens // max(1, group.plain_tokens))
        if price is not None and price.cache_read is not None and read:
            found.append(_cached(evidence, group, read, min(written, 100 - read)))
    return found


def _cached(evidence: Evidence, group: Repeated, read: int, written: int) -> Suggestion:
    scope = evidence.scope(group.component, group.provider, group.model, group.task_type)
    who = whose(group.component, group.task_type)
    minutes = CACHE_LIFE // timedelta(minutes=1)
    return Suggestion(
        kind=Kind.PROMPT_CACHING,
        title=f"{who}: prompt caching for {group.provider}/{group.model}",
        detail=(
            f"{group.repeats:,} of {group.requests:,} calls followed another one of their context within {minutes}"
            f" minutes, and none read from a cache. {group.component} has to send what stays the same first, and where"
            " the provider wants it marked, mark it to be cached; there is nothing to set in the budget service."
        ),
        assumption=(
            f"Within a context, as many tokens as its smallest call has stay the same, if they are at least"
            f" {LEAST_CACHED_TOKENS:,}: {read} % of the input is read from the cache and {written} % is written to it,"
            f" at the provider's price for that; {minutes} minutes later it is gone."
        ),
        scope=scope,
        proposal=Proposal(caching=(Caching(scope, read, written),)),
    )


def batches(evidence: Evidence) -> list[Suggestion]:
    """For each component and model the batch tier, for the task types that whoever asks says can wait."""
    return [_batch(evidence, one) for one in evidence.calls if one.task_type in evidence.deferrable]


def without_batch_price(evidence: Evidence) -> list[str]:
    """The models that are used for what can wait, and of which no batch price is known."""
    names: dict[str, None] = {}
    for one in evidence.calls:
        price = evidence.prices.price(one.provider, one.model, evidence.end, "batch")
        if one.task_type in evidence.deferrable and price and price.status is PriceStatus.FALLBACK:
            names[one.name] = None
    return list(names)


def _batch(evidence: Evidence, calls: Calls) -> Suggestion:
    scope = evidence.scope(calls.component, calls.provider, calls.model, calls.task_type)
    who = whose(calls.component, calls.task_type)
    return Suggestion(
        kind=Kind.BATCH_TIER,
        title=f"{who}: the batch tier of {calls.name}",
        detail=(
            f"{calls.requests:,} calls of {who} went to {calls.name}. {calls.component} has to send them through the"
            " provider's batch interface and record them with service_tier batch; there is nothing to set in the"
            " budget service."
        ),
        assumption=f"You say that {calls.task_type} can wait: a batch is answered within a day, not at once.",
        scope=scope,
        proposal=Proposal(tiers=(TierChange(scope, "batch"),)),
    )


def combined(suggestions: Iterable[Suggestion]) -> Proposal:
    """All that change what calls cost, as one proposal."""
    proposals = [one.proposal for one in suggestions]
    return Proposal(
        swaps=tuple(swap for one in proposals for swap in one.swaps),
        tiers=tuple(tier for one in proposals for tier in one.tiers),
        caching=tuple(cached for one in proposals for cached in one.caching),
    )


def best_of_each(suggestions: Iterable[Suggestion]) -> list[Suggestion]:
    """Those that save something, largest first; of those that exclude each other only the best."""
    ranked = sorted((one for one in suggestions if one.saving > 0), key=lambda one: (-one.saving, one.title))
    kept: dict[object, Suggestion] = {}
    for number, one in enumerate(ranked):
        kept.setdefault(number if one.instead_of is None else one.instead_of, one)
    return list(kept.values())
