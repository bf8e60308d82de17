"""Records that are applied together, and the moves of the offsets that applying them makes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
from aiokafka import ConsumerRecord

from budget_bus.errors import Fenced
from budget_bus.store import fence
from budget_bus.store.fence import Advance, Claim

Clock = Callable[[], datetime]  # consumers are handed theirs, so that a test may turn it


def utc_now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


_CLAIMS_NOTHING = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one topic in offset order per partition, and the moves that applying them makes."""

    topic: str
    records: Sequence[ConsumerRecord]
    moves: list[Advance]

    def part(self, start: int, stop: int) -> Batch:
        """
        A stretch of the batch as a batch of its own, to be applied after the stretch before it.

        Its moves begin where the stretch before ended, partition by partition. The watermark is the whole's, so only
        the stretch that reaches the end of a move may claim it.
        """
        before: dict[int, int] = {record.partition: record.offset + 1 for record in self.records[:start]}
        after: dict[int, int] = {record.partition: record.offset + 1 for record in self.records[start:stop]}
        moves = []
        for move in self.moves:
            if (part := move.claim.part) in after:
                begin = before.get(part, move.claim.next_offset)
                end = after[part] if any(r.partition == part for r in self.records[stop:]) else move.to_offset
                read_to = move.watermark_at if end == move.to_offset else _CLAIMS_NOTHING
                moves.append(Advance(Claim(part, move.claim.epoch, begin), end, read_to))
        return Batch(self.topic, self.records[start:stop], moves)


# Applies a batch in one transaction that begins with fence.enter. With a reason, its one record is refused by the
# database itself and must be dead-lettered for that reason.
Apply = Callable[[Batch, str | None], Awaitable[None]]


async def is_applied(pool: asyncpg.Pool, batch: Batch, error: Exception) -> bool:
    """
    After a commit without an answer: did it happen?

    Raises:
        Fenced: a partition is somebody else's now, or the books are at an offset that this batch does not explain.
    """
    try:
        async with pool.acquire() as connection:
            parts = [move.claim.part for move in batch.moves]
            now = await fence.positions(connection, batch.topic, parts)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        return False
    for move in batch.moves:
        if now[move.claim.part].epoch != move.claim.epoch:
            raise Fenced(f"{batch.topic}/{move.claim.part} has a new owner") from error
    if all(now[move.claim.part].next_offset == move.to_offset for move in batch.moves):
        return True
    if any(now[move.claim.part].next_offset != move.claim.next_offset for move in batch.moves):
        raise Fenced(f"{batch.topic}: the books are at another offset") from error
    return False
