"""
The windows of per_context budgets: begun by a context's first call, and then as fixed as any other.

A window is what its balance's row says. Rows of one context never overlap, so a balance is the ledger's sum of its
window here too.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from budget_bus.policy.budget import Budget
from budget_bus.policy.scope import Call
from budget_bus.policy.windows import Period, Window
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.sql import queries

_SQL = queries("contexts")
_LOCK = 0x6275646704


async def resolve(connection: asyncpg.Connection, catalogue: Catalogue, calls: Iterable[tuple[Call, datetime]]) -> None:
    """
    Let *catalogue* know the windows that *calls* fall in, beginning those that are missing.

    A window that is begun here is kept once its balance is born, which must be in the same transaction.
    """
    if not catalogue.has_contexts:
        return
    wanted: dict[tuple[UUID, str], list[tuple[Budget, datetime]]] = {}
    for call, at in calls:
        for budget in catalogue.matching(call):
            if budget.spec.period is Period.PER_CONTEXT and catalogue.context_window(budget, at, call) is None:
                wanted.setdefault((budget.budget_id, call.context_id or ""), []).append((budget, at))
    if not wanted:
        return
    await _load(connection, catalogue, wanted)
    missing = {key: list(filter(lambda one: _unknown(catalogue, key, one), found)) for key, found in wanted.items()}
    missing = {key: found for key, found in missing.items() if found}
    if not missing:
        return
    await connection.execute(_SQL["lock"], _LOCK, [f"{budget_id} {context}" for budget_id, context in missing])
    await _load(connection, catalogue, missing)
    for key, found in missing.items():
        for budget, at in sorted(found, key=lambda one: one[1]):
            if _unknown(catalogue, key, (budget, at)):
                await _begin(connection, catalogue, key, budget, at)


def _unknown(catalogue: Catalogue, key: tuple[UUID, str], one: tuple[Budget, datetime]) -> bool:
    return not any(window.holds(one[1]) for window in catalogue.contexts.get(key, ()))


async def _load(connection: asyncpg.Connection, catalogue: Catalogue, keys: Iterable[tuple[UUID, str]]) -> None:
    keys = sorted(keys)
    for key in keys:
        catalogue.contexts[key] = []
    for row in await connection.fetch(_SQL["windows"], [key[0] for key in keys], [key[1] for key in keys]):
        window = Window(row["window_start"], row["window_end"], row["context_id"])
        catalogue.contexts[row["budget_id"], row["context_id"]].append(window)


async def _begin(
    connection: asyncpg.Connection, catalogue: Catalogue, key: tuple[UUID, str], budget: Budget, at: datetime
) -> None:
    """Begin a window at the context's first call of the last `context_ttl_s`, between the windows it has."""
    ttl, context = timedelta(seconds=budget.spec.context_ttl_s or 0), key[1]
    windows = catalogue.contexts[key]
    floor = max([w.end for w in windows if w.end and w.end <= at], default=None)
    since = at - ttl + timedelta(microseconds=1)
    since = max(since, floor) if floor else since
    start = await connection.fetchval(_SQL["first_seen"], context, since, at) or at
    end = min([w.start for w in windows if w.start > at] + [start + ttl])
    windows.append(Window(start, end, context))
    catalogue.begun.add(key)
