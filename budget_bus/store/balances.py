"""Balances: born as the ledger's sum of their window, locked in id order, moved last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from budget_bus.policy.budget import Balance, Budget, Unit
from budget_bus.policy.scope import FIELDS
from budget_bus.policy.windows import Window
from budget_bus.store import holds
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.sql import queries

_SQL = queries("balances")


@dataclass(slots=True)
class Delta:
    """What a transaction adds to one balance."""

    spent: int = 0
    held: int = 0
    unconfirmed: int = 0


async def ensure(
    connection: asyncpg.Connection, catalogue: Catalogue, wanted: Mapping[tuple[Any, Any], tuple[Budget, Window]]
) -> tuple[dict[tuple[Any, Any], int], set[int]]:
    """
    The balance ids of *wanted*, keyed by `(budget_id, window_start)`; those that do not exist are born.

    A balance is born as the sum of its window in the ledger, this transaction's own rows included: whoever inserts
    the row owns its birth, and every other batch with events in that window waits for it and adds its own.

    Returns:
        The ids, and of them the ones that were born here: the caller must not add what its ledger rows already gave.
    """
    ids = {key: catalogue.balance_ids[key] for key in wanted if key in catalogue.balance_ids}
    missing = sorted(key for key in wanted if key not in ids)
    if not missing:
        return ids, set()
    for row in await connection.fetch(_SQL["find"], [key[0] for key in missing], [key[1] for key in missing]):
        key = (row["budget_id"], row["window_start"])
        ids[key] = catalogue.balance_ids[key] = row["balance_id"]
    born: set[int] = set()
    missing = [key for key in missing if key not in ids]
    if missing:
        ends = [wanted[key][1].end for key in missing]
        rows = await connection.fetch(_SQL["bear"], [k[0] for k in missing], [k[1] for k in missing], ends)
        for row in rows:
            key = (row["budget_id"], row["window_start"])
            ids[key] = row["balance_id"]
            born.add(row["balance_id"])
            await _charge(connection, *wanted[key], row["balance_id"])
        # What another transaction bore meanwhile: the insert waited for it.
        missing = [key for key in missing if key not in ids]
        if missing:
            found = await connection.fetch(_SQL["find"], [k[0] for k in missing], [k[1] for k in missing])
            ids |= {(row["budget_id"], row["window_start"]): row["balance_id"] for row in found}
    return ids, born


async def bear_now(connection: asyncpg.Connection, budget: Budget, window: Window) -> None:
    """Bear a balance that does not exist yet, in a transaction that has the catalogue's lock alone."""
    for row in await connection.fetch(_SQL["bear"], [budget.budget_id], [window.start], [window.end]):
        await _charge(connection, budget, window, row["balance_id"])


async def _charge(connection: asyncpg.Connection, budget: Budget, window: Window, balance_id: int) -> None:
    spent = await ledger_sum(connection, budget, window)
    held, unconfirmed = await holds.pin(connection, budget, window, balance_id)
    await connection.execute(_SQL["charge"], balance_id, spent, held, unconfirmed)


async def ledger_sum(connection: asyncpg.Connection, budget: Budget, window: Window) -> int:
    """What the ledger says *budget* has spent in *window*, in the budget's unit: the number its balance must equal."""
    scope, unit = budget.spec.scope, budget.spec.unit
    asked = [name in scope.rules for name in FIELDS] + [bool(scope.tags)]
    # A window of years takes longer than any other statement of ours.
    rows = await connection.fetch(_SQL["ledger_sums"], window.start, window.end, *asked, timeout=3600)
    column = {Unit.COST: "cost", Unit.TOKENS: "tokens", Unit.REQUESTS: "requests"}[unit]
    return sum(
        row[column]
        for row in rows
        if (unit is not Unit.COST or row["currency"] == budget.spec.currency) and scope.admits(holds.call_of(row))
    )


async def lock(connection: asyncpg.Connection, balance_ids: Iterable[int]) -> dict[int, Balance]:
    """Lock balances in id order until the transaction ends, and read them."""
    rows = await connection.fetch(_SQL["lock"], sorted(set(balance_ids)))
    return {row["balance_id"]: Balance(row["spent"], row["held"], row["unconfirmed"]) for row in rows}


async def move(connection: asyncpg.Connection, deltas: Mapping[int, Delta]) -> None:
    """Add *deltas* to balances that are locked."""
    ids = sorted(deltas)
    await connection.execute(
        _SQL["move"],
        ids,
        [deltas[i].spent for i in ids],
        [deltas[i].held for i in ids],
        [deltas[i].unconfirmed for i in ids],
    )


async def budgets_of(connection: asyncpg.Connection, balance_ids: Iterable[int]) -> dict[int, tuple[Any, Window]]:
    """balance_id -> budget_id and window, also of budgets that are no longer in force."""
    rows = await connection.fetch(_SQL["describe"], sorted(set(balance_ids)))
    return {row["balance_id"]: (row["budget_id"], Window(row["window_start"], row["window_end"])) for row in rows}
