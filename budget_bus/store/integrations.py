"""Which components are there: what each recorded, asked, and did with what was held for it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from budget_bus.store.ledger import bucket_of
from budget_bus.store.sql import queries

_SQL = queries("integrations")


@dataclass(slots=True)
class Integration:
    """
    One component over a span of time. `holds` counts by state; `unpriced` is (provider, model, requests), most first.
    """

    component: str
    requests: int = 0
    unpriced_requests: int = 0
    last_occurred_at: datetime | None = None
    last_recorded_at: datetime | None = None
    checks: int = 0
    denied: int = 0
    last_check_at: datetime | None = None
    holds: dict[str, int] = field(default_factory=dict)
    unpriced: list[tuple[str, str, int]] = field(default_factory=list)


async def integrations(pool: asyncpg.Pool, start: datetime, end: datetime) -> list[Integration]:
    """Every component that recorded or asked in `[start, end)`, by name; *start* counts from its quarter of an hour."""
    found = _Found()
    first = bucket_of(start)
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        for row in await connection.fetch(_SQL["recorded"], first, end):
            one = found[row["component"]]
            one.requests, one.unpriced_requests = int(row["requests"]), int(row["unpriced_requests"])
            one.last_occurred_at, one.last_recorded_at = row["last_occurred_at"], row["last_recorded_at"]
        for row in await connection.fetch(_SQL["unpriced"], first, end):
            found[row["component"]].unpriced.append((row["provider"], row["model"], int(row["requests"])))
        for row in await connection.fetch(_SQL["asked"], start, end):
            one = found[row["component"]]
            one.checks, one.denied, one.last_check_at = row["checks"], row["denied"], row["last_check_at"]
        for row in await connection.fetch(_SQL["held"], start, end):
            found[row["component"]].holds[row["state"]] = row["holds"]
    return [found[name] for name in sorted(found)]


class _Found(defaultdict[str, Integration]):
    def __missing__(self, component: str) -> Integration:
        self[component] = Integration(component)
        return self[component]
