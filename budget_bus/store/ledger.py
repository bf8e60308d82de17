"""Usage events and their 15-minute sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from budget_bus.errors import Retryable
from budget_bus.store.sql import queries

_SQL = queries("ledger")
_BUCKET_S = 900


class LedgerRow(NamedTuple):
    """One row of the ledger, in the order of its columns."""

    event_id: UUID
    digest: bytes
    occurred_at: datetime
    accounted_at: datetime
    component: str
    provider: str
    model: str
    tier: str
    service_tier: str
    task_type: str | None
    context_id: str | None
    user: str | None
    operation_id: str | None
    tags: dict[str, str]
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    reasoning_output_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    cache_creation_1h_input_tokens: int
    input_image_tokens: int
    output_image_tokens: int
    token_source: str
    cost_nanos: int | None
    input_cost_nanos: int | None
    output_cost_nanos: int | None
    currency: str
    price_status: str
    price_source: str
    reported_cost_nanos: int | None
    reported_currency: str | None
    request_id: UUID | None
    late: bool
    unreserved: bool
    topic: str
    part: int
    record_offset: int


COLUMNS = [{"user": "user_name"}.get(name, name) for name in LedgerRow._fields]


ROLLUP_SUMS = (
    "requests", "input_tokens", "output_tokens", "cost_nanos", "unpriced_requests", "unpriced_tokens",
    "cache_read_input_tokens", "late_requests", "late_cost_nanos",
)  # fmt: skip


class RollupKey(NamedTuple):
    """The dimensions of a rollup row; absent ones are ''."""

    bucket_start: datetime
    component: str
    provider: str
    model: str
    tier: str
    task_type: str
    user: str
    context_id: str
    currency: str


def bucket_of(at: datetime) -> datetime:
    """The start of the 15-minute UTC bucket that *at* falls in."""
    return _bucket(int(at.timestamp()) // _BUCKET_S)


@lru_cache(maxsize=4096)
def _bucket(number: int) -> datetime:
    return datetime.fromtimestamp(number * _BUCKET_S, UTC)


async def known(connection: asyncpg.Connection, event_ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """The digests of those events that the ledger has already."""
    return {row["event_id"]: row["digest"] for row in await connection.fetch(_SQL["known"], event_ids)}


async def insert(connection: asyncpg.Connection, rows: Sequence[LedgerRow]) -> None:
    """
    Write events that `known` did not find.

    Raises:
        Retryable: another consumer wrote one of them since; roll back and look again.
    """
    if not rows:
        return
    try:
        # COPY takes a third of the time of INSERT from arrays, and the primary key judges it just the same.
        await connection.copy_records_to_table("ledger", records=rows, columns=COLUMNS)
    except asyncpg.UniqueViolationError:
        raise Retryable("an event was recorded by another consumer at the same moment") from None


async def add_rollups(connection: asyncpg.Connection, sums: Mapping[RollupKey, Sequence[int]]) -> None:
    """Add the numbers of ROLLUP_SUMS, in their order, to each bucket."""
    if not sums:
        return
    keys = sorted(sums)
    columns: list[Any] = list(zip(*keys, strict=True))
    columns += zip(*(sums[key] for key in keys), strict=True)
    await connection.execute(_SQL["add_rollups"], *columns)


async def fold_hour(connection: asyncpg.Connection, upto: datetime) -> bool:
    """
    Sum up the rollups of the next hour that has no sums of its own yet; False if it ends after *upto*.

    The transaction has the exclusive catalogue lock, so nobody adds to a rollup meanwhile.
    """
    return await connection.fetchval(_SQL["fold_hour"], upto) is not None
