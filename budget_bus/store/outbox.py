"""What is to be published: rows written with the effects they tell of, deleted once Kafka has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from budget_bus.store.sql import queries

RELAY_LOCK = 0x6275646703

_SQL = queries("outbox")


class Message(NamedTuple):
    """A record to publish; *topic* is without the installation's prefix."""

    topic: str
    key: bytes | None
    value: bytes | None


class Waiting(NamedTuple):
    """A message in the outbox."""

    outbox_id: int
    message: Message
    headers: list[tuple[str, bytes]]
    created_at: datetime


class Crossing(NamedTuple):
    """A threshold that was crossed, with the alert to publish; published once per all but the payload."""

    alert_id: UUID
    budget_id: UUID
    context_id: str
    window_start: datetime
    threshold_percent: int
    limit_version: int
    kind: str
    payload: dict[str, Any]


async def put(connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
    """Queue messages; per key they leave in the order of their transactions."""
    if messages:
        await connection.execute(_SQL["put"], *(list(column) for column in zip(*messages, strict=True)))


async def put_with_headers(
    connection: asyncpg.Connection, messages: Sequence[tuple[Message, Sequence[tuple[str, bytes]]]]
) -> None:
    """Queue messages, each with its headers."""
    rows = [(*message, [name for name, _ in headers], [value for _, value in headers]) for message, headers in messages]
    if rows:
        await connection.executemany(_SQL["put_with_headers"], rows)


async def raise_alerts(
    connection: asyncpg.Connection, crossings: Sequence[Crossing], *, at: datetime
) -> list[Crossing]:
    """Record crossings; returns those that are new, which are the ones to publish."""
    if not crossings:
        return []
    columns = [list(column) for column in zip(*crossings, strict=True)]
    rows = await connection.fetch(_SQL["raise_alerts"], *columns, at)
    new = {row["alert_id"] for row in rows}
    return [crossing for crossing in crossings if crossing.alert_id in new]


async def become_relay(connection: asyncpg.Connection) -> bool:
    """Whether this connection is now the one relay; until it closes."""
    return bool(await connection.fetchval(_SQL["only_relay"], RELAY_LOCK))


async def next_messages(connection: asyncpg.Connection, limit: int) -> list[Waiting]:
    """The oldest waiting messages."""
    return [
        Waiting(
            row["outbox_id"],
            Message(row["topic"], row["key"], row["value"]),
            list(zip(row["header_names"], row["header_values"], strict=True)),
            row["created_at"],
        )
        for row in await connection.fetch(_SQL["next"], limit)
    ]


async def published(connection: asyncpg.Connection, outbox_ids: Sequence[int]) -> None:
    """Forget messages that Kafka has acknowledged."""
    await connection.execute(_SQL["published"], outbox_ids)


async def waiting(connection: asyncpg.Connection) -> int:
    """How many messages wait."""
    return int(await connection.fetchval(_SQL["waiting"]))


def to_json(fact: dict[str, Any]) -> bytes:
    """A fact as the JSON of a record's value; instants as RFC 3339."""
    return json.dumps(fact, default=_write, separators=(",", ":")).encode()


def _write(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
