"""
How budgets are changed: under the exclusive catalogue lock, so that no batch is under way with the old ones.

A new budget's balances are born from the ledger and the open holds: nothing recorded before is missed, and what is
recorded while this runs waits.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg

from budget_bus.errors import Conflict, FieldError, NotFound, Rejected
from budget_bus.policy.allocation import ancestry, check_allocation, check_percents
from budget_bus.policy.budget import Budget, LimitSpec, Raise
from budget_bus.policy.pricing import PRICE_CURRENCY
from budget_bus.policy.windows import Period
from budget_bus.store import balances, exchange
from budget_bus.store.catalogue import read_budgets
from budget_bus.store.changes import Noted, note
from budget_bus.store.fence import lock_catalogue
from budget_bus.store.sql import queries

_SQL = queries("catalogue")


async def list_limits(pool: asyncpg.Pool) -> list[Budget]:
    """All budgets in force, oldest first."""
    return await read_budgets(pool)


async def get_limit(pool: asyncpg.Pool, budget_id: uuid.UUID) -> Budget:
    """
    One budget.

    Raises:
        NotFound: there is none in force with that id.
    """
    return _named(await read_budgets(pool), budget_id)


def _named(budgets: Iterable[Budget], budget_id: uuid.UUID) -> Budget:
    for budget in budgets:
        if budget.budget_id == budget_id:
            return budget
    raise NotFound(f"no budget {budget_id}")


# From the budget as it is (None: there is none) to what it is to be; called under the catalogue's lock.
Wish = Callable[[Budget | None], LimitSpec]


async def set_limit(
    pool: asyncpg.Pool,
    spec: LimitSpec,
    *,
    actor: str,
    budget_id: uuid.UUID | None = None,
    now: datetime | None = None,
    keep: Wish | None = None,
) -> tuple[Budget, bool]:
    """
    Create a budget, or change the one with the same scope, period and unit (or the one named by *budget_id*).

    Written in one transaction with its `budget.changes` fact. *now* (this machine's clock) picks the window that is
    born at once. *keep* makes the final spec of the budget that is there, so that nobody can change it in between.

    Returns:
        The budget as it is now, and whether it was created.

    Raises:
        Rejected: a cost budget in a currency without an exchange rate, an allocation that does not fit its parent, or a
            change into another budget's identity.
        NotFound: *budget_id* names none.
    """
    at = now or datetime.now(UTC)
    async with pool.acquire() as connection, connection.transaction():
        await lock_catalogue(connection)
        budgets = {budget.budget_id: budget for budget in await read_budgets(connection)}
        before = _named(budgets.values(), budget_id) if budget_id else None
        same = next((b for b in budgets.values() if _identity(b.spec) == _identity(spec)), None)
        if before and same and same.budget_id != budget_id:
            raise Rejected(f"budget {same.budget_id} has the same scope, period and unit", [_taken()])
        before = before or same
        spec = keep(before) if keep else spec
        await _check_currency(connection, spec)
        target = before.budget_id if before else uuid.uuid4()
        check_allocation(spec, target, budgets)
        await _bear_family(connection, budgets, target, at)  # what is carried over is left of the old limits
        await connection.execute(_SQL["update" if before else "insert"], target, *_columns(spec), at)
        if before and _limit_changed(before.spec, spec):
            await connection.execute(_SQL["renew"], target)
        if before and _windows_changed(before.spec, spec):
            await connection.execute(_SQL["drop_balances"], target)
        after = _named(await read_budgets(connection), target)
        await _bear_current(connection, after, at)
        await audit(connection, before, after, actor, at)
        return after, before is None


async def reallocate(
    pool: asyncpg.Pool,
    parent_id: uuid.UUID,
    percents: Mapping[uuid.UUID, Decimal],
    *,
    actor: str,
    now: datetime | None = None,
) -> list[Budget]:
    """
    Give allocations of one budget other percentages, in one transaction: one grows by what another loses, and nobody
    decides in between.

    Returns:
        The allocations that *percents* names, as they are now.

    Raises:
        NotFound: there is no such parent in force.
        Rejected: one is no allocation of it, or all together they would have more than 100 %.
    """
    at = now or datetime.now(UTC)
    async with pool.acquire() as connection, connection.transaction():
        await lock_catalogue(connection)
        budgets = {budget.budget_id: budget for budget in await read_budgets(connection)}
        _named(budgets.values(), parent_id)
        check_percents(parent_id, percents, budgets)
        changed = {key: percent for key, percent in percents.items() if budgets[key].spec.percent != percent}
        await _bear_family(connection, budgets, parent_id, at)  # what is carried over is left of the old limits
        for budget_id, percent in changed.items():
            spec = replace(budgets[budget_id].spec, percent=percent)
            await connection.execute(_SQL["update"], budget_id, *_columns(spec), at)
            await connection.execute(_SQL["renew"], budget_id)
        after = {budget.budget_id: budget for budget in await read_budgets(connection)}
        for budget_id in changed:
            await _bear_current(connection, after[budget_id], at)
            await audit(connection, budgets[budget_id], after[budget_id], actor, at)
        return [after[budget_id] for budget_id in percents]


async def remove_limit(pool: asyncpg.Pool, budget_id: uuid.UUID, *, actor: str) -> None:
    """
    Take a budget out of force; its past windows stay.

    Raises:
        NotFound: there is none in force with that id.
        Conflict: it has allocations, which would follow nothing.
    """
    async with pool.acquire() as connection, connection.transaction():
        await lock_catalogue(connection)
        budgets = await read_budgets(connection)
        before = _named(budgets, budget_id)
        children = [budget.spec.name for budget in budgets if budget.spec.parent_id == budget_id]
        if children:
            raise Conflict(f"budget {before.spec.name!r} has allocations ({', '.join(children)}); remove these first")
        await connection.execute(_SQL["remove"], budget_id)
        await audit(connection, before, None, actor, datetime.now(UTC))


async def raise_limit(
    pool: asyncpg.Pool, budget_id: uuid.UUID, amount: int, *, until: datetime, actor: str,
    reason: str | None = None, now: datetime | None = None,
) -> Budget:  # fmt: skip
    """
    Let a limit be *amount* (in the budget's unit) higher until *until*, when it ends by itself. Raises add up.

    Raises:
        NotFound: there is no such budget in force.
        Rejected: *until* is past, or the amount is none.
    """
    at = now or datetime.now(UTC)
    if amount <= 0:
        raise Rejected("invalid input", [FieldError("amount", "must be more than 0")])
    if until <= at:
        raise Rejected("invalid input", [FieldError("expires_at", "must be in the future")])
    parameters = [uuid.uuid4(), budget_id, amount, at, until, reason, actor]
    return await _change_raises(pool, budget_id, _SQL["insert_raise"], parameters, actor=actor, at=at)


async def end_raises(pool: asyncpg.Pool, budget_id: uuid.UUID, *, actor: str, now: datetime | None = None) -> Budget:
    """
    End all raises of a budget now.

    Raises:
        NotFound: there is no such budget in force.
    """
    at = now or datetime.now(UTC)
    return await _change_raises(pool, budget_id, _SQL["end_raises"], [budget_id, at], actor=actor, at=at)


async def _change_raises(
    pool: asyncpg.Pool, budget_id: uuid.UUID, statement: str, parameters: list[Any], *, actor: str, at: datetime
) -> Budget:
    async with pool.acquire() as connection, connection.transaction():
        await lock_catalogue(connection)
        budgets = {budget.budget_id: budget for budget in await read_budgets(connection)}
        before = _named(budgets.values(), budget_id)
        await _bear_family(connection, budgets, budget_id, at)
        if await connection.execute(statement, *parameters) == "UPDATE 0":
            return before  # a new version of the same limit would alert once more
        await connection.execute(_SQL["renew"], budget_id)
        after = _named(await read_budgets(connection), budget_id)
        await audit(connection, before, after, actor, at)
        return after


async def _bear_current(connection: asyncpg.Connection, budget: Budget, at: datetime) -> None:
    # Born here rather than with its first use: whoever looks next sees what was spent before.
    if budget.spec.period is not Period.PER_CONTEXT:
        await balances.bear_now(connection, budget, budget.window(at))


async def _bear_family(
    connection: asyncpg.Connection, budgets: Mapping[uuid.UUID, Budget], budget_id: uuid.UUID, at: datetime
) -> None:
    for budget in budgets.values():
        if budget.rollover_since and budget_id in ancestry(budget):
            await _bear_current(connection, budget, at)


def percent_text(percent: Decimal | None) -> str | None:
    """A percentage as short as it can be written."""
    return None if percent is None else f"{percent.normalize():f}"


def describe_raise(budget: Budget, one: Raise) -> dict[str, Any]:
    """A raise as the API writes it."""
    return {
        "raise_id": str(one.raise_id),
        "amount": budget.write(one.amount),
        "starts_at": one.starts_at.isoformat().replace("+00:00", "Z"),
        "ends_at": one.ends_at.isoformat().replace("+00:00", "Z"),
        "reason": one.reason,
    }


def describe(budget: Budget, at: datetime) -> dict[str, Any]:
    """A budget as the audit feed writes it: without its balance, with the raises that have not ended at *at*."""
    spec = budget.spec
    return {
        "budget_id": str(budget.budget_id),
        "name": spec.name,
        "scope": spec.scope.to_json(),
        "period": spec.period.value,
        "unit": spec.unit.value,
        "currency": spec.currency,
        "limit": None if spec.parent_id else budget.write(spec.limit),
        "policy": spec.policy.value if spec.policy else None,
        "ceiling_percent": spec.ceiling_percent,
        "thresholds": list(spec.thresholds),
        "timezone": spec.timezone,
        "week_start": spec.week_start,
        "month_anchor": spec.month_anchor,
        "shadow": spec.shadow,
        "parent": str(spec.parent_id) if spec.parent_id else None,
        "percent": percent_text(spec.percent),
        "rollover_cap": None if spec.rollover_cap is None else budget.write(spec.rollover_cap),
        "ttl_s": spec.context_ttl_s,
        "critical_may_pass": spec.critical_may_pass,
        "alert_on": [basis.value for basis in spec.alert_on],
        "raises": [describe_raise(budget, one) for one in budget.raises if one.ends_at > at],
        "limit_version": budget.limit_version,
    }


async def audit(
    connection: asyncpg.Connection, before: Budget | None, after: Budget | None, actor: str, at: datetime
) -> None:
    """Bump the catalogue's version and tell of the change, in its transaction."""
    await connection.execute(_SQL["bump"])
    was, now = describe(before, at) if before else None, describe(after, at) if after else None
    kind = "allocation" if any(b and b.spec.parent_id for b in (before, after)) else "limit"
    named = after or before
    assert named is not None  # noqa: S101 - a change is of something
    await note(connection, Noted(kind, was, now, str(named.budget_id)), actor=actor, at=at)


def _columns(spec: LimitSpec) -> list[Any]:
    return [
        spec.name,
        spec.scope.to_json(),
        spec.period.value,
        spec.unit.value,
        spec.currency,
        None if spec.parent_id else spec.limit,
        spec.policy.value if spec.policy else None,
        spec.ceiling_percent,
        list(spec.thresholds),
        spec.timezone,
        spec.week_start,
        spec.month_anchor,
        spec.shadow,
        spec.parent_id,
        spec.percent,
        spec.rollover_cap,
        spec.context_ttl_s,
        spec.critical_may_pass,
        [basis.value for basis in spec.alert_on],
    ]


def _identity(spec: LimitSpec) -> tuple[Any, ...]:
    return spec.scope.to_json(), spec.period, spec.unit


def _taken() -> FieldError:
    return FieldError("scope", "is taken")


def _limit_changed(before: LimitSpec, after: LimitSpec) -> bool:
    return (before.limit, before.parent_id, before.percent) != (after.limit, after.parent_id, after.percent)


def _windows_changed(before: LimitSpec, after: LimitSpec) -> bool:
    return (
        any(
            getattr(before, name) != getattr(after, name)
            for name in ("timezone", "week_start", "month_anchor", "period", "unit", "currency")
        )
        or before.scope.to_json() != after.scope.to_json()
    )


async def _check_currency(connection: asyncpg.Connection, spec: LimitSpec) -> None:
    if spec.currency in (None, PRICE_CURRENCY):
        return
    if {PRICE_CURRENCY, spec.currency} <= {"EUR", *await exchange.newest(connection)}:
        return
    message = f"no exchange rate between {PRICE_CURRENCY} and {spec.currency} is known"
    raise Rejected("invalid currency", [FieldError("currency", message)])
