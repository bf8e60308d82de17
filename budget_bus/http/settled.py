"""`?wait=true`: wait until the settler has passed some records, and say what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.events.usage import UsageRecorded
from budget_bus.http.parts import Parts
from budget_bus.http.status import DATABASE_ERRORS
from budget_bus.money import format_nanos
from budget_bus.store import reads
from budget_bus.store.reads import Recorded

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.1

Place = tuple[int, int]  # partition and offset


class Result(BaseModel):
    """
    One event in the ledger. `duplicate` was counted before, `conflict` and `rejected` are among the dead letters.

    The numbers are those of the ledger row with this `event_id`, null if there is none.
    """

    event_id: UUID
    status: Literal["recorded", "duplicate", "conflict", "late", "rejected"]
    cost: str | None = None
    input_cost: str | None = None
    output_cost: str | None = None
    currency: str | None = None
    price_status: Literal["priced", "free", "unpriced", "fallback"] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    occurred_at: datetime | None = None


async def await_settled(parts: Parts, events: Sequence[UsageRecorded], places: Sequence[Place]) -> list[Result] | None:
    """What became of *events*, which lie at *places*; None if that cannot be said in time."""
    if any(offset < 0 for _, offset in places):
        return None  # The broker did not say where a record lies that it had got before.
    wanted: dict[int, int] = {}
    for part, offset in places:
        wanted[part] = max(offset, wanted.get(part, 0))
    try:
        if not await _passed(parts, wanted):
            return None
        rows = await reads.recorded(parts.pool, [event.event_id for event in events if event.event_id])
    except DATABASE_ERRORS:
        return None  # Kafka has the events, so they will be counted.
    return [_result(event, place, rows) for event, place in zip(events, places, strict=True)]


async def _passed(parts: Parts, wanted: Mapping[int, int]) -> bool:
    pause_s, deadline = _FIRST_PAUSE_S, asyncio.get_running_loop().time() + parts.settling_patience_s
    while True:
        progress = await reads.progress(parts.pool, USAGE_RECORDED)
        if all(part in progress and progress[part].next_offset > offset for part, offset in wanted.items()):
            return True
        if asyncio.get_running_loop().time() + pause_s > deadline:
            return False
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def _result(event: UsageRecorded, place: Place, rows: Mapping[UUID, Recorded]) -> Result:
    assert event.event_id is not None  # noqa: S101  # the gateway gave every event one before sending it
    row = rows.get(event.event_id)
    if row is None:
        return Result(event_id=event.event_id, status="rejected")
    here = (row.topic, row.part, row.record_offset) == (USAGE_RECORDED, *place)
    if here:
        status: Literal["recorded", "duplicate", "conflict", "late"] = "late" if row.late else "recorded"
    else:
        status = "duplicate" if row.digest == event.digest() else "conflict"
    return Result(
        event_id=event.event_id,
        status=status,
        cost=_money(row.cost_nanos),
        input_cost=_money(row.input_cost_nanos),
        output_cost=_money(row.output_cost_nanos),
        currency=row.currency,
        price_status=row.price_status,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        total_tokens=row.input_tokens + row.output_tokens,
        occurred_at=row.occurred_at,
    )


def _money(nanos: int | None) -> str | None:
    return None if nanos is None else format_nanos(nanos)
