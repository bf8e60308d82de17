"""Which hold an event settles, and what settling does to the balances."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from budget_bus.policy.budget import Budget, Policy

# An event without request_id may settle a hold that was decided this much after it: the clocks of two machines differ.
CLOCK_SKEW = timedelta(seconds=5)


class HoldState(StrEnum):
    """The life of a hold: it is open, then exactly one of the others; unconfirmed may still be settled or voided."""

    OPEN = "open"
    SETTLED = "settled"
    VOIDED = "voided"
    EXPIRED = "expired"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True)
class Hold:
    """
    An amount set aside. `amounts[i]` lies on balance `balance_ids[i]`, in that balance's unit.

    A lease is settled by many events, bit by bit: `cost_nanos`, `tokens` and `calls` are what is left of it, and
    `units[i]` is the unit of amount i.
    """

    request_id: UUID
    state: HoldState
    decided_at: datetime
    cost_nanos: int | None
    tokens: int
    balance_ids: tuple[int, ...]
    amounts: tuple[int, ...]
    context_id: str | None = None
    component: str = ""
    lease: bool = False
    calls: int = 1
    units: str = ""
    given_back: tuple[int, int, int] = (0, 0, 0)

    @property
    def settleable(self) -> bool:
        return self.state in (HoldState.OPEN, HoldState.UNCONFIRMED)


class Part(NamedTuple):
    """A part of a lease: nanos of its currency, tokens, calls."""

    cost: int
    tokens: int
    calls: int

    def of(self, unit: str) -> int:
        """The part in the unit that one letter of `Hold.units` names."""
        return {"c": self.cost, "t": self.tokens, "r": self.calls}[unit]


def take(lease: Hold, part: Part) -> tuple[Hold, dict[int, int]]:
    """
    *lease* without *part*, of which no more is taken than is left; and balance_id -> what comes off it.

    What a call used beyond the rest of its lease was never set aside. With its last call all of the lease is taken: its
    lessee bounds what it does not know, so what its calls did not use would stay set aside for nobody.
    """
    last = part.calls >= lease.calls
    taken = Part(
        lease.cost_nanos or 0 if last else min(part.cost, lease.cost_nanos or 0),
        lease.tokens if last else min(part.tokens, lease.tokens),
        min(part.calls, lease.calls),
    )
    off = {
        balance_id: _cost_off(amount, taken.cost, lease.cost_nanos or 0) if unit == "c" else min(amount, taken.of(unit))
        for balance_id, amount, unit in zip(lease.balance_ids, lease.amounts, lease.units, strict=True)
    }
    rest = replace(
        lease,
        cost_nanos=None if lease.cost_nanos is None else lease.cost_nanos - taken.cost,
        tokens=lease.tokens - taken.tokens,
        calls=lease.calls - taken.calls,
        amounts=tuple(amount - off[i] for i, amount in zip(lease.balance_ids, lease.amounts, strict=True)),
    )
    return rest, off


def _cost_off(amount: int, taken: int, of: int) -> int:
    """
    What comes off *amount* when *taken* of the lease's cost *of* is: the same, or the same share in another currency.

    The rest is rounded up, so that what is left of the lease stays covered.
    """
    return amount if taken >= of else amount - -(-amount * (of - taken) // of)


def is_hard(budget: Budget, policy: Policy) -> bool:
    """Whether what nobody has heard of stays charged on *budget*, which follows *policy*."""
    return policy is Policy.HARD_LIMIT and not budget.spec.shadow


def left_unconfirmed(hold: Hold, on_hard: Collection[int]) -> Hold | None:
    """
    An expired *hold* with just the amounts that stay charged: those on the balances *on_hard*; None if there are none.
    """
    kept = [
        at
        for at, (balance_id, amount) in enumerate(zip(hold.balance_ids, hold.amounts, strict=True))
        if amount and balance_id in on_hard
    ]
    if not kept:
        return None
    return replace(
        hold,
        balance_ids=tuple(hold.balance_ids[at] for at in kept),
        amounts=tuple(hold.amounts[at] for at in kept),
        units="".join(hold.units[at] for at in kept) if hold.lease else "",
    )


class Settling(NamedTuple):
    """What of an event decides which hold it settles."""

    event_id: UUID
    caller: tuple[str, str, str]  # component, provider, model
    occurred_at: datetime
    request_id: UUID | None
    context_id: str | None


def match_holds(
    events: Iterable[Settling], named: Mapping[UUID, Hold], oldest: Mapping[tuple[str, str, str], Sequence[Hold]]
) -> dict[UUID, Hold]:
    """
    Give each event the hold it settles: the one it names, else the oldest open one of the same component, provider
    and model (and context, when the event has one).

    Each hold is given once, but a lease to every event that names it; an event that names a hold which is closed or
    unknown settles none.

    Returns:
        event_id -> hold, for the events that settle one.
    """
    events = list(events)
    given: dict[UUID, Hold] = {}
    taken: set[UUID] = set()
    for event in events:
        hold = named.get(event.request_id) if event.request_id else None
        if hold and hold.settleable and (hold.lease or hold.request_id not in taken):
            given[event.event_id] = hold
            taken.add(hold.request_id)
    for event in events:
        if event.request_id is not None:
            continue
        for hold in oldest.get(event.caller, ()):
            fits_context = event.context_id is None or hold.context_id == event.context_id
            if hold.request_id not in taken and fits_context and hold.decided_at <= event.occurred_at + CLOCK_SKEW:
                given[event.event_id] = hold
                taken.add(hold.request_id)
                break
    return given
