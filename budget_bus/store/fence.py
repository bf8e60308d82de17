"""
Who owns a partition, how far it is read, and the lock between batches and changes of the catalogue.

The offset moves in the transaction that has the effects, and only for the owner of the newest epoch: a consumer
that lost its partition without noticing (a zombie) changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from budget_bus.errors import Fenced
from budget_bus.store.sql import queries

CATALOGUE_LOCK = 0x6275646702

_SQL = queries("fence")


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition as its owner knows it: the epoch it was taken with and the next offset to apply."""

    part: int
    epoch: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Advance:
    """A batch's part of one partition: from the offset that must be the next one, to the one after its last."""

    claim: Claim
    to_offset: int
    watermark_at: datetime


async def take(connection: asyncpg.Connection, topic: str, part: int, *, owner: str, start_offset: int) -> Claim:
    """
    Take a partition; from here on every earlier owner is fenced. Waits for the earlier owner's running batch.

    *start_offset* is where to begin if nobody has ever read this partition.
    """
    row = await connection.fetchrow(_SQL["take"], topic, part, owner, start_offset)
    return Claim(part, row["owner_epoch"], row["next_offset"])


@dataclass(frozen=True, slots=True)
class Entry:
    """What holds until the transaction ends: the catalogue's version, and up to when all usage is in the books."""

    catalogue_version: int
    usage_read_to: datetime | None  # None: no partition of the topic was ever read


async def enter(
    connection: asyncpg.Connection, topic: str, moves: Sequence[Advance] = (), *, usage_topic: str = "usage.recorded"
) -> Entry:
    """
    Begin a transaction on the books: move the offsets of *moves* and share the catalogue's lock until it ends.

    Raises:
        Fenced: a partition has another owner or another offset; roll back.
    """
    row = await connection.fetchrow(
        _SQL["enter"],
        topic,
        [move.claim.part for move in moves],
        [move.claim.next_offset for move in moves],
        [move.to_offset for move in moves],
        [move.claim.epoch for move in moves],
        [move.watermark_at for move in moves],
        CATALOGUE_LOCK,
        usage_topic,
    )
    if row["moved"] != len(moves):
        raise Fenced(f"{topic}: {len(moves) - row['moved']} of {len(moves)} partitions were taken over or re-read")
    return Entry(row["version"], row["usage_read_to"])


async def lock_catalogue(connection: asyncpg.Connection, *, patience_ms: int | None = None) -> None:
    """
    Wait until no batch is under way; none begins until the transaction ends.

    Raises:
        asyncpg.LockNotAvailableError: a batch took longer than *patience_ms*; roll back.
    """
    if patience_ms is not None:
        await connection.execute(_SQL["patience"], f"{patience_ms}ms")
    await connection.execute(_SQL["lock_catalogue"], CATALOGUE_LOCK)


async def positions(connection: asyncpg.Connection, topic: str, parts: list[int]) -> dict[int, Claim]:
    """What the database says of *parts* now: the way to learn whether an unanswered commit happened."""
    rows = await connection.fetch(_SQL["where_am_i"], topic, parts)
    return {row["part"]: Claim(row["part"], row["owner_epoch"], row["next_offset"]) for row in rows}


async def rewind(connection: asyncpg.Connection, topic: str, claim: Claim, offset: int) -> Claim:
    """Read the partition again from *offset*, for its log has become shorter; dedup by id does the rest."""
    await connection.execute(_SQL["rewind"], topic, claim.part, claim.epoch, offset)
    return Claim(claim.part, claim.epoch, offset)


async def touch_watermark(connection: asyncpg.Connection, topic: str, claims: list[Claim], at: datetime) -> None:
    """Say that these partitions were read to their end at *at*; does nothing for those that were taken over."""
    await connection.execute(_SQL["watermark"], topic, [c.part for c in claims], [c.epoch for c in claims], at)


async def forget_gone(connection: asyncpg.Connection, topic: str, partitions: int) -> None:
    """
    Forget what was read of partitions beyond *partitions*: the topic was made anew with fewer, and nobody will ever
    move the watermarks of those again.
    """
    await connection.execute(_SQL["forget"], topic, partitions)
