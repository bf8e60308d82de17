"""
How budgets are changed: under the exclusive catalogue lock, so that no batch is under way with the old ones.

A new budget's balances are born from the ledger and the open holds: nothing recorded before is missed, and what is
recorded while this runs waits.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import asyncpg

from budget_bus.errors import FieldError, NotFound, Rejected
from budget_bus.policy.budget import Budget, LimitSpec, Unit
from budget_bus.store import balances, outbox
from budget_bus.store.catalogue import budget_from_row
from budget_bus.store.fence import CATALOGUE_LOCK
from budget_bus.store.sql import queries

_SQL = queries("catalogue")
_FENCE = queries("fence")

PRICE_CURRENCY = "USD"  # what all prices of the book are in


async def list_limits(pool: asyncpg.Pool) -> list[Budget]:
    """All budgets in force, oldest first."""
    return [budget_from_row(row) for row in await pool.fetch(_SQL["budgets"])]


async def get_limit(pool: asyncpg.Pool, budget_id: uuid.UUID) -> Budget:
    """
    One budget.

    Raises:
        NotFound: there is none in force with that id.
    """
    row = await pool.fetchrow(_SQL["budget"], budget_id)
    if row is None:
        raise NotFound(f"no budget {budget_id}")
    return budget_from_row(row)


async def set_limit(
    pool: asyncpg.Pool,
    spec: LimitSpec,
    *,
    actor: str,
    budget_id: uuid.UUID | None = None,
    now: datetime | None = None,
) -> tuple[Budget, bool]:
    """
    Create a budget, or change the one with the same scope, period and unit (or the one named by *budget_id*).

    Written in one transaction with its `budget.changes` fact. *now* (this machine's clock) picks the window that is
    born at once.

    Returns:
        The budget as it is now, and whether it was created.

    Raises:
        Rejected: a cost budget in a currency that no price is in, or a change into another budget's identity.
        NotFound: *budget_id* names none.
    """
    _check_currency(spec)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_FENCE["lock_catalogue"], CATALOGUE_LOCK)
        same = await connection.fetchval(_SQL["same"], spec.scope.to_json(), spec.period, spec.unit)
        if budget_id and same and same != budget_id:
            raise Rejected(f"budget {same} has the same scope, period and unit", [FieldError("scope", "is taken")])
        target = budget_id or same
        before = await connection.fetchrow(_SQL["budget"], target) if target else None
        if budget_id and before is None:
            raise NotFound(f"no budget {budget_id}")
        budget_id = target or uuid.uuid4()
        await connection.execute(_SQL["update" if before else "insert"], budget_id, *_columns(spec))
        if before and _windows_changed(budget_from_row(before).spec, spec):
            await connection.execute(_SQL["drop_balances"], budget_id)
        after = budget_from_row(await connection.fetchrow(_SQL["budget"], budget_id))
        # Born here rather than with its first use: whoever looks next sees what was spent before.
        await balances.bear_now(connection, after, after.window(now or datetime.now(UTC)))
        await _audit(connection, budget_from_row(before) if before else None, after, actor)
        return after, before is None


async def remove_limit(pool: asyncpg.Pool, budget_id: uuid.UUID, *, actor: str) -> None:
    """
    Take a budget out of force; its past windows stay.

    Raises:
        NotFound: there is none in force with that id.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_FENCE["lock_catalogue"], CATALOGUE_LOCK)
        before = await connection.fetchrow(_SQL["budget"], budget_id)
        if before is None:
            raise NotFound(f"no budget {budget_id}")
        await connection.execute(_SQL["remove"], budget_id)
        await _audit(connection, budget_from_row(before), None, actor)


def describe(budget: Budget) -> dict[str, Any]:
    """A budget as the API writes it, without its balance."""
    spec = budget.spec
    return {
        "budget_id": str(budget.budget_id),
        "name": spec.name,
        "scope": spec.scope.to_json(),
        "period": spec.period.value,
        "unit": spec.unit.value,
        "currency": spec.currency,
        "limit": budget.write(spec.limit),
        "policy": spec.policy.value if spec.policy else None,
        "ceiling_percent": spec.ceiling_percent,
        "thresholds": list(spec.thresholds),
        "timezone": spec.timezone,
        "week_start": spec.week_start,
        "month_anchor": spec.month_anchor,
        "shadow": spec.shadow,
        "limit_version": budget.limit_version,
    }


async def _audit(connection: asyncpg.Connection, before: Budget | None, after: Budget | None, actor: str) -> None:
    await connection.execute(_SQL["bump"])
    change_id, at = uuid.uuid4(), datetime.now(UTC)
    was, now = describe(before) if before else None, describe(after) if after else None
    await connection.execute(_SQL["audit"], change_id, "limit", was, now, actor, at)
    fact = {"change_id": str(change_id), "kind": "limit", "before": was, "after": now, "actor": actor, "at": at}
    named = after or before
    key = str(named.budget_id).encode() if named else None
    await outbox.put(connection, [outbox.Message("budget.changes", key, outbox.to_json(fact))])


def _columns(spec: LimitSpec) -> list[Any]:
    return [
        spec.name,
        spec.scope.to_json(),
        spec.period.value,
        spec.unit.value,
        spec.currency,
        spec.limit,
        spec.policy.value if spec.policy else None,
        spec.ceiling_percent,
        list(spec.thresholds),
        spec.timezone,
        spec.week_start,
        spec.month_anchor,
        spec.shadow,
    ]


def _windows_changed(before: LimitSpec, after: LimitSpec) -> bool:
    return (
        any(
            getattr(before, name) != getattr(after, name)
            for name in ("timezone", "week_start", "month_anchor", "period", "unit", "currency")
        )
        or before.scope.to_json() != after.scope.to_json()
    )


def _check_currency(spec: LimitSpec) -> None:
    if spec.unit is Unit.COST and spec.currency != PRICE_CURRENCY:
        message = f"prices are in {PRICE_CURRENCY}; a cost budget in another currency is not supported yet"
        raise Rejected("invalid currency", [FieldError("currency", message)])
