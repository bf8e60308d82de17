"""A record that cannot be used -> its dead-letter topic, with the reason, through the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
from aiokafka import ConsumerRecord

from budget_bus.consumers.facts import write_instant
from budget_bus.events.topics import dead_letter_topic
from budget_bus.store import outbox
from budget_bus.store.outbox import Message

_MAX_REASON = 2000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record and why it cannot be used; *detail* is more for people."""

    record: ConsumerRecord
    reason: str
    detail: str = ""

    @property
    def label(self) -> str:
        """The reason as a metric's label: the kind, without what the record said."""
        return self.reason.split(";")[0].split(":")[0][:60]


async def bury(connection: asyncpg.Connection, topic: str, letters: Sequence[DeadLetter], *, at: datetime) -> None:
    """Queue dead letters: the raw bytes, the key and the headers as they came, and where they came from."""
    messages = []
    for letter in letters:
        record = letter.record
        told = {
            "dlq_reason": letter.reason[:_MAX_REASON],
            "dlq_topic": topic,
            "dlq_partition": str(record.partition),
            "dlq_offset": str(record.offset),
            "dlq_at": write_instant(at),
        }
        if letter.detail:
            told["dlq_detail"] = letter.detail[:_MAX_REASON]
        # A record that was replayed and failed again carries its older reasons; the newest ones replace them.
        headers = [(name, value or b"") for name, value in record.headers if not name.startswith("dlq_")]
        headers += [(name, text.encode(errors="replace")) for name, text in told.items()]
        headers = [(name.replace("\0", ""), value) for name, value in headers]
        messages.append((Message(dead_letter_topic(topic), record.key, record.value), headers))
    await outbox.put_with_headers(connection, messages)
