"""Balances and rollups made anew from ledger and holds, where they are not their sums."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from budget_bus.policy.windows import Window
from budget_bus.store import balances
from budget_bus.store.admin import Difference, Progress, check_day, check_one_balance, checkable
from budget_bus.store.catalogue import budget_from_row
from budget_bus.store.changes import Noted, note
from budget_bus.store.fence import lock_catalogue
from budget_bus.store.sql import queries

_SQL = queries("admin")
_BALANCES = queries("balances")
_MANY = 10**6


async def repair_books(connection: asyncpg.Connection, *, actor: str, progress: Progress) -> list[Difference]:
    """
    Make anew each balance, and each UTC day of rollups, that differs; what was repaired.

    What looks wrong is looked at again under the exclusive catalogue lock, when no batch is under way, and written in
    the same transaction with its audit row and its `budget.changes` fact. What was carried over between windows stays,
    and so does what holds say of themselves: no other row tells what they must be.
    """
    repaired: list[Difference] = []
    ids, days = await checkable(connection)
    for done, balance_id in enumerate(ids):
        progress(done, len(ids), "balances")
        if await check_one_balance(connection, balance_id):
            async with connection.transaction():
                await lock_catalogue(connection)
                found = await check_one_balance(connection, balance_id)
                await _remake_balance(connection, balance_id)
                await _audit(connection, found, actor)
            repaired += found
    for done, day in enumerate(days):
        progress(done, len(days), "days of rollups")
        if await check_day(connection, day, 1):
            async with connection.transaction():
                await lock_catalogue(connection)
                found = await check_day(connection, day, _MANY)
                await connection.execute(_SQL["drop_rollups"], day, day + timedelta(days=1))
                await connection.execute(_SQL["rebuild_rollups"], day, day + timedelta(days=1))
                await connection.execute(_SQL["rebuild_hours"], day, day + timedelta(days=1))
                await _audit(connection, found, actor)
            repaired += found
    return repaired


async def _remake_balance(connection: asyncpg.Connection, balance_id: int) -> None:
    row = await connection.fetchrow(_SQL["balance"], balance_id)
    if row is None:
        return
    held = await connection.fetchrow(_SQL["held_amount"], balance_id)
    spent = row["spent"]
    if row["in_force"]:
        window = Window(row["window_start"], row["window_end"], row["context_id"])
        spent = await balances.ledger_sum(connection, budget_from_row(row), window)
    await connection.execute(_BALANCES["charge"], balance_id, spent, held["held"], held["unconfirmed"])


async def _audit(connection: asyncpg.Connection, found: Sequence[Difference], actor: str) -> None:
    before = {"repaired": [{"where": one.where, "number": one.number, "value": one.kept} for one in found]}
    after = {"repaired": [{"where": one.where, "number": one.number, "value": one.expected} for one in found]}
    await note(connection, Noted("config", before, after, "repair"), actor=actor, at=datetime.now(UTC))
