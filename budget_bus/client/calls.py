"""One call under a hold: what both guards remember from its check to its end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from budget_bus.client.exchange import Info, Local, Options, Steps
from budget_bus.client.steps import check, given, now, record, release
from budget_bus.client.streams import Seen
from budget_bus.errors import BudgetExceeded
from budget_bus.events.ids import new_id

# What usage says of a call that its check has said already.
_SHARED = ("component", "provider", "model", "service_tier", "task_type", "context_id", "user", "tags")


class GuardState:
    """
    A call's ids and decision, whether it is settled, and what its stream told. `recorded` is what the last settling
    gave back.
    """

    def __init__(self, options: Options, fields: Mapping[str, Any]) -> None:
        self._options = options
        self.fields = {"request_id": str(new_id()), **given(fields)}
        self.event_id = str(new_id())
        self.info: Info = {}
        self.recorded: Info | None = None
        self._occurred_at = ""
        self._closed = False
        self._seen: Seen | None = None
        self._begun = False
        self._streaming = False
        self._streamed: dict[str, Any] = {}

    def enter(self) -> Steps[None]:
        """Check; raises BudgetExceeded if it is denied."""
        allowed, self.info = yield from check(self._options, self.fields)
        if not allowed:
            raise BudgetExceeded(str(self.info.get("reason") or "denied"), self.info)

    def settle(self, usage: Mapping[str, Any], *, wait: bool = True) -> Steps[Info]:
        """
        Record the call, by what its stream told where *usage* is empty. After BudgetUnavailable it may be repeated: the
        event keeps its id, and with a spool its time.
        """
        self._must_be_open()
        self._streaming = False
        if not usage and self._seen is not None:
            # Kept, because after BudgetUnavailable the same must be said again.
            usage = self._streamed = self._streamed or (yield Local(partial(self._seen.usage, self.fields)))
        said = {name: self.fields[name] for name in _SHARED if name in self.fields}
        if self._options.spool:
            self._occurred_at = said["occurred_at"] = self._occurred_at or now()
        event = {"event_id": self.event_id, **said, **usage, "request_id": self.fields["request_id"]}
        self.recorded = yield from record(self._options, event, wait=wait)
        self._closed = True
        return self.recorded

    def void(self, reason: str | None) -> Steps[None]:
        """Give the hold back, if one was placed."""
        self._must_be_open()
        if self.info.get("hold"):
            yield from release(self._options, str(self.fields["request_id"]), reason)
        self._closed, self._streaming = True, False

    def watch(self) -> None:
        """
        A stream of the call begins.

        Raises:
            RuntimeError: it has had one, or was settled or given back.
        """
        self._must_be_open()
        if self._seen is not None:
            raise RuntimeError("one guard is one call: this one has had its stream")
        self._seen = Seen(str(self.fields["provider"]), str(self.fields["model"]))

    def see(self, chunk: Any) -> None:
        """A chunk of the stream has arrived."""
        if self._seen is not None:
            self._seen.add(chunk)

    def begin(self) -> None:
        """The stream is read from now on, so the call is known to have been made."""
        if not self._begun:
            self._begun, self._streaming = True, not self._closed

    @property
    def streaming(self) -> bool:
        """Whether a stream was begun and is not settled."""
        return self._streaming

    def end_stream(self, *, wait: bool = True) -> Steps[None]:
        """Settle with what the stream told, once; without *wait* nobody wants to know the cost."""
        if self._streaming:
            yield from self.settle({}, wait=wait)

    def _must_be_open(self) -> None:
        if self._closed:
            raise RuntimeError("this call was settled or given back already")
