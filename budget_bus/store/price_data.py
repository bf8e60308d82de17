"""The price data in force, kept so that a restart, also offline, goes on with the last good one."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from budget_bus.errors import NotFound
from budget_bus.store import outbox
from budget_bus.store.sql import queries

_SQL = queries("prices")
_CATALOGUE = queries("catalogue")
_KEPT = 20


class Kept(NamedTuple):
    """The newest data that was kept."""

    data_id: int
    source: str
    fetched_at: datetime
    document: Any


class Review(NamedTuple):
    """A model whose fetched price waits for a decision, or had one."""

    provider: str
    model: str
    reason: str
    before: Any
    after: Any
    state: str
    found_at: datetime
    decided_at: datetime | None
    decided_by: str | None


class Change(NamedTuple):
    """One model's prices as the data had and has them."""

    provider: str
    model: str
    before: Any
    after: Any
    reason: str


async def current_id(connection: asyncpg.Connection) -> int:
    """The number of the data in force, 0 for what came with the release."""
    return int(await connection.fetchval(_SQL["data_id"]))


async def current(connection: asyncpg.Connection) -> Kept | None:
    """The data in force; None: what came with the release."""
    row = await connection.fetchrow(_SQL["data"])
    return row and Kept(row[0], row[1], row[2], json.loads(zlib.decompress(row[3])))


async def put(
    connection: asyncpg.Connection, document: Any, taken: Sequence[Change], *, source: str, actor: str, at: datetime
) -> None:
    """Make *document* the data in force, with a fact for each change; the transaction holds the lock."""
    packed = zlib.compress(json.dumps(document).encode())
    await connection.execute(_SQL["put_data"], source, at, packed)
    await connection.execute(_SQL["trim_data"], _KEPT)
    await connection.execute(_CATALOGUE["bump"])
    ids = [uuid.uuid4() for _ in taken]
    facts = [(_fact(one, one.before, source), _fact(one, one.after, source)) for one in taken]
    columns = [before for before, _ in facts], [after for _, after in facts]
    await connection.execute(_SQL["audit_many"], ids, *columns, actor, at)
    messages = []
    for change_id, one, (before, after) in zip(ids, taken, facts, strict=True):
        fact = {"change_id": change_id, "kind": "price", "before": before, "after": after, "actor": actor, "at": at}
        key = f"{one.provider}/{one.model}".encode()
        messages.append(outbox.Message("budget.changes", key, outbox.to_json(fact)))
    await outbox.put(connection, messages)


async def ask(connection: asyncpg.Connection, held: Sequence[Change], *, at: datetime) -> None:
    """Have *held* wait for a decision, and no others any more."""
    columns = [list(column) for column in zip(*held, strict=True)] if held else [[], [], [], [], []]
    providers, models, before, after, reasons = columns
    await connection.execute(_SQL["close_reviews"], providers, models)
    await connection.execute(_SQL["put_reviews"], providers, models, reasons, before, after, at)


async def reviews(connection: asyncpg.Connection | asyncpg.Pool, *states: str) -> list[Review]:
    """Those in one of *states*: waiting, approved, rejected."""
    return [Review(*row) for row in await connection.fetch(_SQL["reviews"], states or ("waiting",))]


async def decide(connection: asyncpg.Connection, provider: str, model: str, state: str, *, by: str) -> Review:
    """
    Approve or reject what waits.

    Raises:
        NotFound: nothing of that model waits.
    """
    row = await connection.fetchrow(_SQL["decide_review"], provider, model, state, by)
    if row is None:
        raise NotFound(f"no price of {provider}/{model} waits; `budget prices reviews` lists those that do")
    return Review(*row)


def _fact(change: Change, model: Any, source: str) -> Any:
    if model is None:
        return None
    prices = {name: model[name] for name in ("prices", "price_variants") if model.get(name) is not None}
    return {"provider": change.provider, "model": change.model, "source": source, **prices}
