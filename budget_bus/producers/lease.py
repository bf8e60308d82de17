"""The accounts of a lease on its lessee's side: what of a slice of the budget may still be admitted. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple
from uuid import UUID

from budget_bus.money import PICOS_PER_NANO


@dataclass(frozen=True, slots=True)
class Lease:
    """
    How a bus leases: slices of up to *calls* calls, admitted from for at most *ttl_s* before they are renewed.

    A call may be settled up to *drain_s* after its slice was replaced; later it is on its own, as after any hold's end.
    """

    calls: int = 1000
    ttl_s: int = 30
    drain_s: int = 600

    def __post_init__(self) -> None:
        """Raises ValueError: a number is out of its bounds."""
        for name, most in (("calls", 1_000_000), ("ttl_s", 3600), ("drain_s", 43_200)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be between 1 and {most:,}")


class Amounts(NamedTuple):
    """Nanos of the lease's currency, tokens, calls."""

    cost: int
    tokens: int
    calls: int


class Rates(NamedTuple):
    """What any call of the lease costs at most: picos per input token, per output token, and per call."""

    input: int
    output: int
    request: int


class Size(NamedTuple):
    """
    The largest call of its kind: tokens of each side, or of both together.

    With *bare* only the sum is known: then both sides are that sum.
    """

    input: int
    output: int
    bare: bool = False

    @property
    def total(self) -> int:
        return self.input if self.bare else self.input + self.output


class Ticket:
    """One admitted call: what its slice has set aside for it until it is settled or voided, once."""

    __slots__ = ("cost", "event_id", "slice", "tokens")

    def __init__(self, of: Slice, cost: int, tokens: int) -> None:
        self.slice: Slice | None = of  # None: closed
        self.cost = cost
        self.tokens = tokens
        self.event_id: UUID | None = None  # of the usage that settles it, so that a repeat is known as one


class Slice:
    """
    A granted lease. Admitted bounds, what settled calls used and what was given back never add up to more than the
    grant, in any of cost, tokens and calls, as long as no call uses more than its bound.

    `cost`, `tokens` and `calls` are what is free. A call that used more than its bound takes from them, below zero
    even, and nothing more is admitted.
    """

    __slots__ = (
        "_closed_by", "_costs", "_input_picos", "_output_picos", "_request_picos", "_share", "_tokens", "_unit_input",
        "_unit_output", "_unit_total", "calls", "cost", "given_back", "granted", "low_calls", "low_cost", "low_tokens",
        "outstanding", "request_id", "tokens", "until",
    )  # fmt: skip

    def __init__(self, request_id: UUID, granted: Amounts, rates: Rates | None, *, unit: Size, until: float) -> None:
        """
        *granted* is for calls of the size *unit*. *rates* None: unpriced, cost is not counted. *until* is on the clock
        that `admit` is given, in s.
        """
        self.request_id = request_id
        self.granted = granted
        self.cost, self.tokens, self.calls = granted
        self.given_back = Amounts(0, 0, 0)
        self._input_picos, self._output_picos, self._request_picos = rates or (0, 0, 0)
        self._unit_input, self._unit_output, self._unit_total = unit.input, unit.output, unit.total
        # The rates hold for calls of any size. The decider has priced a call of the unit's size, and none that is
        # smaller costs more.
        self._share = granted.cost // granted.calls if granted.calls else 0
        self.until = until
        self.outstanding = 0
        self._costs: list[int] = []
        self._tokens: list[int] = []
        self._closed_by: set[UUID] = set()
        # Below a third it is time to ask for the next one. What was never granted cannot run low.
        self.low_cost, self.low_tokens, self.low_calls = (amount // 3 for amount in granted)

    def admit(self, input_tokens: int, output_tokens: int, now: float) -> Ticket | None:
        """
        Set aside what a call of at most so many tokens may take; None if that is not free or the time is up.

        Raises:
            ValueError: a count is below zero.
        """
        if not (input_tokens >= 0 and output_tokens >= 0):
            raise ValueError("token counts are not below zero")
        cost = self._bound(input_tokens, output_tokens)
        tokens = input_tokens + output_tokens
        if cost > self.cost or tokens > self.tokens or self.calls < 1 or now >= self.until:
            return None
        self.cost -= cost
        self.tokens -= tokens
        self.calls -= 1
        self.outstanding += 1
        return Ticket(self, cost, tokens)

    def admit_bare(self, tokens: int, now: float) -> Ticket | None:
        """As `admit`, for a call of which only the sum is known: every token at the dearer rate."""
        if self._output_picos >= self._input_picos:
            return self.admit(0, tokens, now)
        return self.admit(tokens, 0, now)

    def admit_share(self) -> Ticket:
        """Set aside one call's part of a fresh grant: what was asked for when the lease was taken."""
        ticket = Ticket(self, self._share, self.granted.tokens // self.granted.calls)
        self.cost -= ticket.cost
        self.tokens -= ticket.tokens
        self.calls -= 1
        self.outstanding += 1
        return ticket

    def _bound(self, input_tokens: int, output_tokens: int) -> int:
        """The most that such a call costs, in nanos."""
        picos = input_tokens * self._input_picos + output_tokens * self._output_picos + self._request_picos
        cost = -(-picos // PICOS_PER_NANO)
        if (
            cost > self._share
            and input_tokens <= self._unit_input
            and output_tokens <= self._unit_output
            and input_tokens + output_tokens <= self._unit_total
        ):
            return self._share
        return cost

    @property
    def is_low(self) -> bool:
        """Whether little is left, so that the next lease should be taken."""
        return self.calls <= self.low_calls or self.tokens < self.low_tokens or self.cost < self.low_cost

    def hush(self) -> None:
        """Be low no more: somebody has been told."""
        self.low_calls = -1
        self.low_cost = self.low_tokens = -(2**63)

    def settle(self, ticket: Ticket, input_tokens: int | None, output_tokens: int | None) -> None:
        """
        Exchange the ticket's bound for what the call used; None: not known here, the bound stays.

        The cost is bounded as before, so it is never below what the books count.
        """
        close(ticket)
        self._settle(ticket.cost, ticket.tokens, input_tokens, output_tokens)

    def void(self, ticket: Ticket) -> None:
        """Take the bound of a call back that was never made."""
        close(ticket)
        self._void(ticket.cost, ticket.tokens)

    def loosen(self, ticket: Ticket) -> None:
        """Let the ticket go: its call will be known by the lease's id alone, as one of those that were let go."""
        close(ticket)
        heappush(self._costs, ticket.cost)
        heappush(self._tokens, ticket.tokens)

    def settle_loose(self, event_id: UUID, input_tokens: int | None, output_tokens: int | None) -> bool:
        """
        As `settle`, for one of the calls that were let go; whether there was one. A repeated event closes no other.

        Which one is unknown, so the smallest bounds count as closed: what stays set aside is never too little.
        """
        if not self._tokens or event_id in self._closed_by:
            return False
        self._closed_by.add(event_id)
        self._settle(heappop(self._costs), heappop(self._tokens), input_tokens, output_tokens)
        return True

    def void_loose(self) -> bool:
        """As `void`, for one of the calls that were let go; whether there was one."""
        if not self._tokens:
            return False
        self._void(heappop(self._costs), heappop(self._tokens))
        return True

    def give_back(self) -> Amounts:
        """Stop admitting and give back what is free; returns all that was given back so far."""
        self.until = 0.0
        free = Amounts(max(0, self.cost), max(0, self.tokens), max(0, self.calls))
        self.cost, self.tokens, self.calls = self.cost - free.cost, self.tokens - free.tokens, self.calls - free.calls
        self.given_back = Amounts(*(a + b for a, b in zip(self.given_back, free, strict=True)))
        return self.given_back

    def _settle(self, cost: int, tokens: int, input_tokens: int | None, output_tokens: int | None) -> None:
        self.outstanding -= 1
        if input_tokens is None or output_tokens is None:
            return
        self.cost += cost - self._bound(input_tokens, output_tokens)
        self.tokens += tokens - input_tokens - output_tokens

    def _void(self, cost: int, tokens: int) -> None:
        self.outstanding -= 1
        self.cost += cost
        self.tokens += tokens
        self.calls += 1


def close(ticket: Ticket) -> None:
    """
    Take the ticket out of use.

    Raises:
        RuntimeError: it was settled or voided before; counting it twice would admit more than the slice.
    """
    if ticket.slice is None:
        raise RuntimeError("this call was settled or given back already")
    ticket.slice = None


def nothing() -> Slice:
    """A slice of nothing, for whoever has no lease."""
    return Slice(UUID(int=0), Amounts(0, 0, 0), None, unit=Size(0, 0), until=0.0)
