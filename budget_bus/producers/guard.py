"""`async with bus.guard(...)`: check before a call, then settle with what it used, or give the hold back."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from budget_bus.errors import BudgetExceeded
from budget_bus.events.checks import CheckResponse
from budget_bus.events.ids import new_id
from budget_bus.events.usage import UsageRecorded
from budget_bus.producers.fields import read_fields
from budget_bus.producers.lease import Ticket

if TYPE_CHECKING:
    from budget_bus.producers.bus import BudgetBus

# What usage says of a call that its check has said already.
_SHARED = ("component", "provider", "model", "service_tier", "task_type", "context_id", "user", "tags")


class Guard:
    """One call under a hold. `decision` is the answer to its check, from entering on."""

    decision: CheckResponse

    def __init__(self, bus: BudgetBus, fields: Mapping[str, Any], timeout_s: float) -> None:
        self._bus = bus
        self._fields = dict(fields)
        self._request_id = new_id()  # kept, so that entering again after BudgetUnavailable asks the same question
        self._ticket: Ticket | None = None
        self._timeout_s = timeout_s
        self._event_id = new_id()
        self._closed = False

    async def __aenter__(self) -> Self:
        self.decision, self._ticket = await self._bus.decide(
            self._fields, timeout_s=self._timeout_s, request_id=self._request_id
        )
        if not self.decision.allowed:
            raise BudgetExceeded(self.decision.reason or "denied", self.decision.model_dump(mode="json"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the hold as it is: settled, given back, or else to expire."""

    async def settle(self, **usage: Any) -> UUID:
        """
        Record what the call used (`input_tokens`, `output_tokens`, ... of `usage.recorded`), settling the hold, and
        return the event's id. What the check said of the call need not be repeated.

        It may be repeated after BudgetUnavailable: the event keeps its id.

        Raises:
            RuntimeError: the hold was settled or given back before.
            Rejected, BudgetUnavailable: as `BudgetBus.record`.
        """
        self._must_be_open()
        said = {name: self._fields[name] for name in _SHARED if self._fields.get(name) is not None}
        fields = {"event_id": self._event_id, **said, **usage, "request_id": self.decision.request_id}
        if self._ticket is None:
            event_id = await self._bus.record(**fields)
        else:
            event_id = self._event_id
            await self._bus.leases.settle(self._ticket, read_fields(UsageRecorded, fields))
        self._closed = True
        return event_id

    async def void(self, reason: str | None = None) -> None:
        """
        Give the hold back, because nothing was sent to the model.

        Raises:
            RuntimeError: the hold was settled or given back before.
            BudgetUnavailable: not acknowledged in time; it may be repeated.
        """
        self._must_be_open()
        if self._ticket is None:
            component = self._fields["component"]
            await self._bus.release_hold(self.decision.request_id, component=component, reason=reason)
        else:
            self._bus.leases.void(self._ticket)
        self._closed = True

    def _must_be_open(self) -> None:
        if self._closed:
            raise RuntimeError("this call was settled or given back already")
