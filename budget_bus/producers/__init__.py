"""
Kafka out.

bus.py      BudgetBus, the SDK that components import: record, check, guard, alerts
guard.py    a call under a hold: check, then settle or void     fields.py  keyword arguments -> an event
asking.py   questions, sent and answered
lease.py    what may still be admitted from a lease             lessee.py  admits and settles, takes the next lease
leases.py   all leases of a bus: renewed, prolonged, given back in the background
replies.py  answers to checks, heard on a partition of our own   alerts.py  budget.alerts as a feed
follower.py  reads a topic without a group, from its end or before, through outages of the broker
sender.py   a supervised idempotent producer (recreated when aiokafka's sequence is out of order)
closing.py  closes Kafka clients in bounded time, also when the broker is away
topics.py   `budget topics apply`: make the topics and check them
outbox.py   the relay: what the books want published leaves here, at least once, in order per key
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from budget_bus.producers.bus import BudgetBus
    from budget_bus.producers.lease import Lease

__all__ = ["BudgetBus", "Lease"]


def __getattr__(name: str) -> Any:
    # Lazily, so that `budget topics apply` and the relay do not load the whole SDK, nor it them.
    if name == "BudgetBus":
        from budget_bus.producers.bus import BudgetBus  # noqa: PLC0415

        return BudgetBus
    if name == "Lease":
        from budget_bus.producers.lease import Lease  # noqa: PLC0415

        return Lease
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
