"""Who takes leases for the calls of one set of scope fields, admits them and settles them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from budget_bus.errors import BudgetError, BudgetUnavailable
from budget_bus.events.checks import CheckRequested, CheckResponse, HoldPlaced, LeaseGranted
from budget_bus.events.decode import decode
from budget_bus.events.ids import new_id
from budget_bus.events.usage import UsageRecorded
from budget_bus.money import format_nanos, parse_amount
from budget_bus.producers.fields import read_fields
from budget_bus.producers.lease import Amounts, Rates, Size, Slice, Ticket, nothing

if TYPE_CHECKING:
    from budget_bus.producers.leases import Leases

CHECK_TIMEOUT_S = 2.0

# After a lease of one call, or none, calls are asked for one by one for so long: the limit is near.
_EXACT_S = 1.0
# Of its time a lease is admitted from for all but this part, in case clocks do not run alike.
_MARGIN = 10

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """A decision, and the ticket of the call if a lease has set it aside."""

    decision: CheckResponse
    ticket: Ticket | None


@dataclass(slots=True, eq=False)
class Held:
    """A slice with what is known of its lease. Times are monotonic, in s."""

    slice: Slice
    component: str
    decision: CheckResponse
    asked_at: float
    ends_at: float  # of the hold, at the earliest
    retired_at: float | None = None
    told: Amounts | None = None  # how much the books were told to have back
    told_at: float = 0.0

    def server_time(self, now: float) -> datetime:
        """The decider's clock at *now*, or a round trip later: nobody else's clock is asked."""
        return self.decision.decided_at + timedelta(seconds=now - self.asked_at)


class Lessee:
    """
    Admits calls of one component to one model, with all their scope fields the same, against leases.

    `admit` answers at once; None says that the bus must be asked: `await bus.check(...)` of the same fields takes the
    next lease, or near the limit asks for this one call.
    """

    def __init__(self, leases: Leases, fields: Mapping[str, Any], *, bare: bool, asked_for: bool) -> None:
        self.fields = dict(fields)
        self.bare = bare
        self.asked_for = asked_for  # by its user, who keeps it
        self.used_at = monotonic()
        self.wanted: Size | None = None  # a lease for such calls should be taken in the background
        self.taking: asyncio.Task[Answer] | None = None
        self.current: Held | None = None
        self._leases = leases
        self._slice = nothing()
        self._unit = Size(0, 0)
        self._exact_until = 0.0
        self._asked = False

    def admit(self, input_tokens: int, max_output_tokens: int) -> Ticket | None:
        """
        Set aside what a call of at most so many tokens may take, or None: ask exactly.

        Raises:
            ValueError: a count is below zero.
        """
        of = self._slice
        ticket = of.admit(input_tokens, max_output_tokens, monotonic())
        if ticket is None:
            self._want(Size(input_tokens, max_output_tokens))
        elif of.calls <= of.low_calls or of.tokens < of.low_tokens or of.cost < of.low_cost:  # is_low, without its call
            of.hush()
            self._want(self._unit)
        return ticket

    def void(self, ticket: Ticket) -> None:
        """
        Take back a call that was never made.

        Raises:
            RuntimeError: it was settled or voided before.
        """
        of = slice_of(ticket)
        of.void(ticket)
        if of is not self._slice and not of.outstanding:
            self._leases.wake()  # the last call of a slice that is no longer admitted from

    async def settle(self, ticket: Ticket, **usage: Any) -> UUID:
        """
        Record what the call used (`input_tokens`, `output_tokens`, ... of `usage.recorded`) and return the event's id.

        It may be repeated after BudgetUnavailable: the event keeps its id, and the ticket stays open.

        Raises:
            RuntimeError: it was settled or voided before.
            Rejected, BudgetUnavailable: as `BudgetBus.record`.
        """
        of = slice_of(ticket)
        ticket.event_id = ticket.event_id or new_id()
        said = {"event_id": ticket.event_id, **self.fields, **usage, "request_id": of.request_id}
        await self._leases.settle(ticket, read_fields(UsageRecorded, said))
        return ticket.event_id

    def asked_again(self) -> bool:
        """Whether it was asked before: a lease is for those who come again."""
        again, self._asked = self._asked or self.asked_for, True
        return again

    async def answer(self, size: Size, *, timeout_s: float) -> Answer | None:
        """
        Decide on a call: from the lease, else from the next one. None: it must be asked exactly.

        Raises:
            Rejected, BudgetUnavailable: as `BudgetBus.check`.
        """
        self.used_at = monotonic()
        if ticket := self._admit(size):
            return self._local(ticket)
        if self.taking is None:
            if monotonic() < self._exact_until:
                return None
            return await self._take_for(size, timeout_s)
        await asyncio.wait({self.taking}, timeout=timeout_s)
        ticket = self._admit(size)
        return self._local(ticket) if ticket else None

    def take(self, size: Size, *, timeout_s: float, share: bool) -> asyncio.Task[Answer]:
        """Take the next lease, for calls of *size*; with *share* one of them has a ticket at once."""
        self.wanted = None
        self.taking = asyncio.create_task(self._take(size, timeout_s, share=share), name="lease")
        self.taking.add_done_callback(self._taken)
        return self.taking

    def retire(self, now: float) -> None:
        """Admit no more from the current slice; what is free of it goes back, the rest when its calls have ended."""
        held, self.current, self._slice = self.current, None, nothing()
        if held is not None:
            held.retired_at = now
            self._leases.wake()

    @property
    def used(self) -> bool:
        """Whether the current lease is one of many calls, of which some were made."""
        granted = self._slice.granted.calls
        return granted > 1 and (self._slice.calls < granted or self._slice.outstanding > 0)

    @property
    def unit(self) -> Size:
        """The size that the last lease was taken for."""
        return self._unit

    def is_exact(self, now: float) -> bool:
        """Whether calls are asked for one by one, because the limit is near."""
        return now < self._exact_until

    def is_idle(self, since: float) -> bool:
        """Whether nobody has used it since then, and it holds nothing."""
        return not (self.asked_for or self.current or self.taking) and self.used_at < since

    def _admit(self, size: Size) -> Ticket | None:
        if not self.bare:
            return self.admit(size.input, size.output)
        ticket = self._slice.admit_bare(size.total, monotonic())
        if ticket and self._slice.is_low:
            self._slice.hush()
            self._want(self._unit)
        return ticket

    def _want(self, size: Size) -> None:
        if self.wanted is None and self.taking is None and monotonic() >= self._exact_until:
            self.wanted = size
            self._leases.wake()

    async def _take_for(self, size: Size, timeout_s: float) -> Answer | None:
        task = self.take(size, timeout_s=timeout_s, share=True)
        try:
            answer = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise BudgetUnavailable("the bus was stopped") from None
            # Whoever asked is gone, and its call will not be made.
            task.add_done_callback(_void_share)
            raise
        if not answer.decision.allowed and answer.decision.estimated_tokens > size.total:
            return None  # it was about many calls: ask about this one
        return answer

    async def _take(self, size: Size, timeout_s: float, *, share: bool) -> Answer:
        lease, request_id, asked_at = self._leases.lease, new_id(), monotonic()
        sides = {"input_tokens": size.input, "max_output_tokens": size.output}
        asked = {
            **self.fields,
            **({"estimated_tokens": size.total} if self.bare else sides),
            "request_id": request_id,
            "hold_ttl_s": lease.ttl_s,
            "lease_calls": lease.calls,
        }
        question = read_fields(CheckRequested, asked)
        try:
            decision = decode(CheckResponse, await self._leases.bus.ask(question, timeout_s=timeout_s))
        except BaseException as error:
            # It may have been granted all the same. Nothing was admitted from it, so all of it may go back.
            self._leases.release(request_id, self.fields["component"])
            if isinstance(error, BudgetUnavailable):
                error.request_id = None  # whoever asks with that id again would ask for a lease that is given back
            raise
        granted = decision.lease
        if granted is None or granted.calls == 1:
            self._be_exact()
        if not share and decision.allowed and not self._improves(decision):
            self._be_exact()
            self._leases.release(request_id, self.fields["component"])
            return Answer(decision, None)
        if granted is None:  # denied, or by a decider that knows no leases
            return Answer(decision, None)
        return self._publish(size, decision, granted, asked_at, share=share)

    def _improves(self, decision: CheckResponse) -> bool:
        """Whether a lease that was taken in the background is worth having: none that warns, or is no more than now."""
        # What a decision warns of must reach the one whose call it is about.
        return decision.lease is not None and decision.action == "allow" and decision.lease.calls > self._slice.calls

    def _publish(
        self, size: Size, decision: CheckResponse, granted: LeaseGranted, asked_at: float, *, share: bool
    ) -> Answer:
        cost = parse_amount(granted.cost) if granted.cost is not None else 0
        rates = None
        if granted.cost is not None:
            rates = Rates(granted.input_picos, granted.output_picos, granted.request_picos)
        ends_at = asked_at + self._leases.lease.ttl_s
        of = Slice(
            decision.request_id,
            Amounts(cost, granted.tokens, granted.calls),
            rates,
            unit=Size(size.total, size.total, bare=True) if self.bare else size,
            until=ends_at - self._leases.lease.ttl_s / _MARGIN,
        )
        ticket = of.admit_share() if share else None
        self.retire(asked_at)
        self._slice, self._unit = of, size
        self.current = Held(of, self.fields["component"], decision, asked_at, ends_at)
        self._leases.add(self.current)
        if ticket and granted.calls > 1:
            return self._local(ticket)
        return Answer(decision, ticket)

    def _local(self, ticket: Ticket) -> Answer:
        """What the lease's decision says of one of its calls; how the balances stood then says nothing of now."""
        assert self.current is not None  # noqa: S101 - the ticket is of its slice
        decision = self.current.decision
        cost = None if decision.estimated_cost is None else format_nanos(ticket.cost)
        expires_at = decision.hold.expires_at if decision.hold else None
        update: dict[str, Any] = {
            "estimated_tokens": ticket.tokens,
            "estimated_cost": cost,
            "estimate_source": "lease",
            "hold": HoldPlaced(amount=cost, expires_at=expires_at) if expires_at else None,
            "budgets": [],
            "lease": None,
            "decided_at": datetime.now(UTC),
        }
        return Answer(decision.model_copy(update=update), ticket)

    def _be_exact(self) -> None:
        self._exact_until, self.wanted = monotonic() + _EXACT_S, None

    def _taken(self, task: asyncio.Task[Answer]) -> None:
        self.taking = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._be_exact()
            level = logging.DEBUG if isinstance(error, BudgetError) else logging.ERROR
            log.log(level, "no lease was had: %r", error)


def slice_of(ticket: Ticket) -> Slice:
    """The slice that *ticket* is of. Raises RuntimeError if it was settled or voided before."""
    if ticket.slice is None:
        raise RuntimeError("this call was settled or given back already")
    return ticket.slice


def _void_share(task: asyncio.Task[Answer]) -> None:
    if not task.cancelled() and task.exception() is None and (ticket := task.result().ticket):
        slice_of(ticket).void(ticket)
