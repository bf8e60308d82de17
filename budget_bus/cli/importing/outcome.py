"""Waiting until the settler has applied what was sent, and what became of each row."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic

import asyncpg

from budget_bus.cli.importing.meter import Meter
from budget_bus.cli.importing.sending import Sent
from budget_bus.errors import BudgetUnavailable
from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.money import format_nanos
from budget_bus.store import admin

_LOOK_EVERY_S = 0.1
_PATIENCE_S = 30.0
_CHUNK = 5000


@dataclass(slots=True)
class Outcome:
    """What became of the rows: counted by this import, counted before it, or not counted at all."""

    counted: int = 0
    counted_before: int = 0
    conflicts: int = 0
    missing: int = 0
    unpriced: int = 0
    cost_nanos: int = 0
    currency: str = "USD"

    @property
    def cost(self) -> str:
        return format_nanos(self.cost_nanos)


async def wait_for_settler(
    connection: asyncpg.Connection, sent: Sent, meter: Meter, *, patience_s: float = _PATIENCE_S
) -> None:
    """
    Return once everything in *sent* is applied.

    Raises:
        BudgetUnavailable: nothing was applied for *patience_s*; what was sent stays in Kafka until it is.
    """
    wanted = {part: offset + 1 for part, offset in sent.last.items()}
    behind, moved_at = -1, monotonic()
    while True:
        now = await admin.positions(connection, USAGE_RECORDED)
        left = sum(max(0, to - max(now.get(part, 0), sent.first[part])) for part, to in wanted.items())
        if left == 0:
            return
        if left != behind:
            meter.advance(behind - left if behind >= 0 else 0)
            behind, moved_at = left, monotonic()
        elif monotonic() - moved_at > patience_s:
            raise BudgetUnavailable(
                f"the settler has applied nothing for {patience_s:g} s; is it running? (`budget status`) "
                f"{left} records wait in Kafka and will be counted, once, when it does"
            )
        await asyncio.sleep(_LOOK_EVERY_S)


async def outcome_of(connection: asyncpg.Connection, sent: Sent) -> Outcome:
    """Look every row up in the ledger."""
    outcome = Outcome()
    for chunk in sent.chunks(_CHUNK):
        recorded = await admin.where_recorded(connection, list(chunk))
        for event_id, digest in chunk.items():
            row = recorded.get(event_id)
            if row is None:
                outcome.missing += 1
                continue
            if row.digest != digest:
                outcome.conflicts += 1
                continue
            if row.topic == USAGE_RECORDED and sent.spans(row.part, row.record_offset):
                outcome.counted += 1
            else:
                outcome.counted_before += 1
            outcome.cost_nanos += row.cost_nanos or 0
            outcome.unpriced += row.cost_nanos is None
            outcome.currency = row.currency
    return outcome
