"""The log of decisions, each as it was answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from budget_bus.errors import NotFound
from budget_bus.store.sql import queries

_SQL = queries("decisions")


class Logged(NamedTuple):
    """A decision; `answer` is the check.response JSON as it was sent. Earlier releases did not keep who asked."""

    request_id: UUID
    decided_at: datetime
    component: str | None
    provider: str | None
    model: str | None
    answer: str


async def decisions(
    pool: asyncpg.Pool,
    *,
    actions: Sequence[str] | None,
    budget_ids: Sequence[UUID] | None,
    since: datetime | None,
    until: datetime | None,
    filters: Mapping[str, Sequence[str]],
    before: tuple[datetime, UUID] | None,
    count: int,
) -> list[Logged]:
    """
    At most *count* decisions of `[since, until)`, newest first, before the one decided at *before*.

    *filters* gives the allowed values of some of component, provider and model; providers are stored names.
    """
    ids = [str(budget_id) for budget_id in budget_ids] if budget_ids else None
    patterns = [f"%{budget_id}%" for budget_id in ids or ()]
    picked = [list(filters[name]) if filters.get(name) else None for name in ("component", "provider", "model")]
    rows = await pool.fetch(
        _SQL["decisions"], actions or None, since, until, *(before or (None, None)), ids, patterns, *picked, count
    )
    return [Logged(*row) for row in rows]


async def decision(pool: asyncpg.Pool, request_id: UUID) -> str:
    """
    The answer to one check, byte for byte.

    Raises:
        NotFound: no check with that id was decided.
    """
    row = await pool.fetchrow(_SQL["decision"], request_id)
    if row is None:
        raise NotFound(f"no decision {request_id}")
    if row["action"] == "released":
        raise NotFound(f"no decision {request_id}: it was released before its check was read")
    return str(row["answer"])
