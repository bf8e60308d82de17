"""All leases of a bus: who leases what, and the task in the background that renews, prolongs and gives back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import UUID

from budget_bus.errors import BudgetError
from budget_bus.events.checks import CheckRequested
from budget_bus.events.holds import HoldExtended, HoldReleased
from budget_bus.events.topics import HOLD_EXTENDED, HOLD_RELEASED
from budget_bus.events.usage import UsageRecorded
from budget_bus.money import format_nanos
from budget_bus.producers.fields import read_fields
from budget_bus.producers.lease import Lease, Size, Ticket
from budget_bus.producers.lessee import CHECK_TIMEOUT_S, Answer, Held, Lessee, slice_of

if TYPE_CHECKING:
    from budget_bus.producers.bus import BudgetBus

_SCOPE = ("component", "provider", "model", "service_tier", "task_type", "context_id", "user", "tags")
# A question that says one of these asks for what a lease does not answer, as does one without its largest output.
_EXACT = {"request_id", "hold_ttl_s", "lease_calls", "input_audio_tokens"}
_LONGEST_PAUSE_S = 1.0
_PATIENCE_S = 3.0

log = logging.getLogger(__name__)


class Leases:
    """Holds the lessees of *bus* by their scope fields. Everything happens in the bus's event loop."""

    def __init__(self, bus: BudgetBus, lease: Lease) -> None:
        self.bus = bus
        self.lease = lease
        self._lessees: dict[str, Lessee] = {}
        self._held: dict[UUID, Held] = {}
        self._unwanted: dict[UUID, str] = {}  # leases to give back as a whole, with the component
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def lessee(self, fields: Mapping[str, Any]) -> Lessee:
        """
        The lessee of these scope fields, which its user keeps.

        Raises:
            Rejected: names each wrong field.
        """
        asked = read_fields(CheckRequested, {**fields, "request_id": UUID(int=0), "estimated_tokens": 0})
        lessee = self._lessee(asked, bare=False)
        lessee.asked_for = True
        return lessee

    async def answer(self, question: CheckRequested, said: Collection[str], *, timeout_s: float) -> Answer | None:
        """
        Decide on a call from a lease, which may have to be taken first. None: it must be asked exactly.

        *said* are the names of the fields that its asker gave. The first call of its scope fields is asked exactly: a
        lease is for those who come again.
        """
        if self._closed or not question.hold or question.priority != "normal" or not _EXACT.isdisjoint(said):
            return None
        if question.estimated_tokens is not None:
            size = Size(question.estimated_tokens, question.estimated_tokens, bare=True)
        elif question.input_tokens is not None and question.max_output_tokens is not None:
            size = Size(question.input_tokens, question.max_output_tokens)
        else:
            return None
        lessee = self._lessee(question, bare=size.bare)
        return await lessee.answer(size, timeout_s=timeout_s) if lessee.asked_again() else None

    async def settle(self, ticket: Ticket, event: UsageRecorded) -> None:
        """
        Send the usage of a ticket's call and close the ticket.

        Raises:
            BudgetUnavailable: as `BudgetBus.record`; the ticket stays open.
        """
        of = ticket.slice
        await self.bus.send_usage([event])
        # Only now: while it is unknown whether the usage is on its way, its bound must not be admitted again.
        if of is not None and ticket.slice is of:
            of.settle(ticket, event.input_tokens, event.output_tokens)
            self._ended(of.request_id)

    def void(self, ticket: Ticket) -> None:
        """Void a ticket's call. Raises RuntimeError if it was closed before."""
        of = slice_of(ticket)
        of.void(ticket)
        self._ended(of.request_id)

    def recorded(self, event: UsageRecorded) -> None:
        """Settle a call that `check` admitted and of which *event* names the lease only."""
        held = self._held.get(event.request_id) if event.request_id else None
        if held and event.event_id and held.slice.settle_loose(event.event_id, event.input_tokens, event.output_tokens):
            self._ended(held.slice.request_id)

    def void_named(self, request_id: UUID) -> bool:
        """
        Void a call that `check` admitted, if this names a lease; whether it does.

        A lease is never given back as a whole for one of its calls.
        """
        held = self._held.get(request_id)
        if held and held.slice.void_loose():
            self._ended(request_id)
        return held is not None

    def keeps(self, request_id: UUID) -> bool:
        """Whether this names a lease, which is prolonged while its calls last."""
        return request_id in self._held

    def add(self, held: Held) -> None:
        """Keep a lease until nothing of it is left."""
        self._held[held.slice.request_id] = held

    def release(self, request_id: UUID, component: str) -> None:
        """Have a lease given back from which nothing was admitted, also if it is not known whether it was granted."""
        self._unwanted[request_id] = component
        self.wake()

    def wake(self) -> None:
        """Let the background look at all leases soon."""
        if not self._awake.is_set():
            self._awake.set()
            if (self._task is None or self._task.done()) and not self._closed:
                self._task = asyncio.create_task(self._keep(), name="leases")

    async def stop(self) -> None:
        """Give back what is unused of every lease; calls that are under way keep theirs for `drain_s`."""
        self._closed = True
        tasks: list[asyncio.Task[Any]] = [lessee.taking for lessee in self._lessees.values() if lessee.taking]
        tasks += [self._task] if self._task else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        now = monotonic()
        for lessee in self._lessees.values():
            lessee.retire(now)
        lasting = [held for held in self._held.values() if held.slice.outstanding]
        prolonging = [self._prolong(held, now, self.lease.drain_s) for held in lasting]
        await asyncio.gather(*prolonging, self._give_back(since=now))

    def _lessee(self, asked: CheckRequested, *, bare: bool) -> Lessee:
        fields = {name: value for name in _SCOPE if (value := getattr(asked, name))}
        key = f"{bare}{sorted(fields.items())!r}"
        if key not in self._lessees:
            self._lessees[key] = Lessee(self, fields, bare=bare, asked_for=False)
        return self._lessees[key]

    async def _keep(self) -> None:
        while True:
            self._awake.clear()
            now = monotonic()
            for key, lessee in list(self._lessees.items()):
                self._tend(lessee, now)
                if lessee.is_idle(since=now - self.lease.ttl_s):
                    del self._lessees[key]
            due = [held for held in self._held.values() if self._must_last(held, now)]
            prolonging = [self._prolong(held, now, self.lease.ttl_s) for held in due]
            await asyncio.gather(*prolonging, self._give_back(since=now - _LONGEST_PAUSE_S))
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self.lease.ttl_s / 8, _LONGEST_PAUSE_S)):
                    await self._awake.wait()

    def _tend(self, lessee: Lessee, now: float) -> None:
        """Take the next lease before this one is used up or over; what nobody uses goes back."""
        held, wanted = lessee.current, lessee.wanted
        if held and now >= held.ends_at - self.lease.ttl_s / 2:
            if lessee.used and not lessee.is_exact(now):
                wanted = wanted or lessee.unit
            if not lessee.used or now >= held.slice.until:
                lessee.retire(now)
        if wanted and not lessee.taking:
            lessee.take(wanted, timeout_s=CHECK_TIMEOUT_S, share=False)

    def _must_last(self, held: Held, now: float) -> bool:
        """Whether calls are under way under a hold that ends soon, and not for longer than they may take."""
        too_long = held.retired_at is not None and now >= held.retired_at + self.lease.drain_s
        return bool(held.slice.outstanding) and now >= held.ends_at - self.lease.ttl_s / 2 and not too_long

    async def _prolong(self, held: Held, now: float, for_s: float) -> None:
        expires_at = held.server_time(now) + timedelta(seconds=for_s)
        fields = {"request_id": held.slice.request_id, "component": held.component, "expires_at": expires_at}
        if await self._sent(HOLD_EXTENDED, read_fields(HoldExtended, fields)):
            held.ends_at = now + for_s

    async def _give_back(self, *, since: float) -> None:
        """Give back what is free of retired slices: at once when a last call has ended, else if not told *since*."""
        now = monotonic()
        whole = [self._release_whole(request_id, component) for request_id, component in self._unwanted.items()]
        retired = [held for held in self._held.values() if held.retired_at is not None]
        parts = [self._give_back_of(held, now) for held in retired if self._may_tell(held, since)]
        await asyncio.gather(*whole, *parts)
        for held in retired:
            # Calls that never ended: what is left is a matter of the books when the hold expires.
            lost = held.retired_at is not None and now >= held.retired_at + self.lease.drain_s and now >= held.ends_at
            if lost or (not held.slice.outstanding and held.told == held.slice.given_back):
                self._held.pop(held.slice.request_id, None)

    def _may_tell(self, held: Held, since: float) -> bool:
        return held.told is None or not held.slice.outstanding or held.told_at <= since

    async def _give_back_of(self, held: Held, now: float) -> None:
        of = held.slice
        given = of.give_back()
        fields: dict[str, Any] = {"request_id": of.request_id, "component": held.component}
        if given != of.granted:
            cost, tokens, calls = given
            fields["unused"] = {"cost": format_nanos(cost), "tokens": tokens, "requests": calls}
        if given == (held.told or (0, 0, 0)) or await self._sent(HOLD_RELEASED, read_fields(HoldReleased, fields)):
            held.told, held.told_at = given, now

    async def _release_whole(self, request_id: UUID, component: str) -> None:
        event = read_fields(HoldReleased, {"request_id": request_id, "component": component})
        if await self._sent(HOLD_RELEASED, event):
            self._unwanted.pop(request_id, None)

    async def _sent(self, topic: str, event: HoldExtended | HoldReleased) -> bool:
        """Whether the broker has it; if not, it is sent again later."""
        try:
            await self.bus.announce(topic, event, timeout_s=_PATIENCE_S)
        except BudgetError as error:
            log.debug("%s of a lease is sent again: %s", topic, error)
            return False
        return True

    def _ended(self, request_id: UUID) -> None:
        """One of a lease's calls has ended: if it was the last, the rest can go back."""
        held = self._held.get(request_id)
        if held and held.retired_at is not None and not held.slice.outstanding:
            self.wake()
