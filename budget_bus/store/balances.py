"""Balances: born as the ledger's sum of their window, locked in id order, moved last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from budget_bus.policy.budget import Balance, Budget, Reached, Unit
from budget_bus.policy.rollover import carried, hands_on
from budget_bus.policy.scope import FIELDS
from budget_bus.policy.windows import Window
from budget_bus.store import holds
from budget_bus.store.catalogue import Catalogue, Place, place_of
from budget_bus.store.sql import queries

_SQL = queries("balances")


class Movement(NamedTuple):
    """What moves balances, in the order of its columns: kept with its place in the order in which they were locked."""

    kind: str
    at: datetime
    topic: str | None = None
    part: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    request_id: UUID | None = None
    cost_nanos: int | None = None
    tokens: int | None = None
    calls: int | None = None


@dataclass(slots=True)
class Delta:
    """What a transaction adds to one balance."""

    spent: int = 0
    held: int = 0
    unconfirmed: int = 0

    def on(self, balance: Balance) -> Balance:
        """*balance* with this added."""
        return balance.moved(spent=self.spent, held=self.held, unconfirmed=self.unconfirmed)


async def ensure(
    connection: asyncpg.Connection, catalogue: Catalogue, wanted: Mapping[Place, tuple[Budget, Window]]
) -> tuple[dict[Place, int], set[int]]:
    """
    The balance ids of *wanted*; those that do not exist are born.

    A balance is born as the sum of its window in the ledger, this transaction's own rows included: whoever inserts
    the row owns its birth, and every other batch with events in that window waits for it and adds its own.

    Returns:
        The ids, and of them the ones that were born here: the caller must not add what its ledger rows already gave.
    """
    ids = {key: catalogue.balance_ids[key] for key in wanted if key in catalogue.balance_ids}
    missing = sorted(key for key in wanted if key not in ids)
    if not missing:
        return ids, set()
    found = await _find(connection, missing)
    catalogue.balance_ids |= found
    ids |= found
    missing = [key for key in missing if key not in ids]
    if not missing:
        return ids, set()
    born = await _bear(connection, {key: wanted[key] for key in missing})
    ids |= born
    # What another transaction bore meanwhile: the insert waited for it.
    missing = [key for key in missing if key not in ids]
    if missing:
        ids |= await _find(connection, missing)
    return ids, set(born.values())


async def _find(connection: asyncpg.Connection, places: Sequence[Place]) -> dict[Place, int]:
    rows = await connection.fetch(_SQL["find"], *(list(column) for column in zip(*places, strict=True)))
    return {(row["budget_id"], row["context_id"], row["window_start"]): row["balance_id"] for row in rows}


async def bear_now(connection: asyncpg.Connection, budget: Budget, window: Window) -> None:
    """Bear a balance that does not exist yet, in a transaction that has the catalogue's lock alone."""
    await _bear(connection, {place_of(budget, window): (budget, window)})


async def _bear(connection: asyncpg.Connection, wanted: Mapping[Place, tuple[Budget, Window]]) -> dict[Place, int]:
    places = sorted(wanted)
    columns = [list(column) for column in zip(*places, strict=True)]
    rows = await connection.fetch(_SQL["bear"], *columns, [wanted[place][1].end for place in places])
    born: dict[Place, int] = {}
    for row in rows:
        place = (row["budget_id"], row["context_id"], row["window_start"])
        budget, window = wanted[place]
        born[place] = row["balance_id"]
        spent = await ledger_sum(connection, budget, window)
        held, unconfirmed = await holds.pin(connection, budget, window, row["balance_id"])
        await connection.execute(_SQL["charge"], row["balance_id"], spent, held, unconfirmed)
        if budget.rollover_since is not None:
            await _carry(connection, budget, window, row["balance_id"])
    return born


async def _carry(connection: asyncpg.Connection, budget: Budget, window: Window, balance_id: int) -> None:
    """Hand on to a window that is being born what the last one before it has left."""
    row = await connection.fetchrow(_SQL["lock_before"], budget.budget_id, window.start)
    if row is None:
        return
    before = Window(row["window_start"], row["window_end"])
    if hands_on(budget, before, window.start):
        out, into = carried(budget, before, balance_from_row(row), window)
        await connection.execute(_SQL["carry"], row["balance_id"], out, balance_id, into)


async def ledger_sum(connection: asyncpg.Connection, budget: Budget, window: Window) -> int:
    """What the ledger says *budget* has spent in *window*, in the budget's unit: the number its balance must equal."""
    scope, unit = budget.spec.scope, budget.spec.unit
    asked = [name in scope.rules for name in FIELDS] + [bool(scope.tags)]
    # A window of years takes longer than any other statement of ours.
    rows = await connection.fetch(
        _SQL["ledger_sums"], window.start, window.end, *asked, window.context_id, timeout=3600
    )
    counted = [row for row in rows if scope.admits(holds.call_of(row))]
    column = {Unit.COST: "cost", Unit.TOKENS: "tokens", Unit.REQUESTS: "requests"}[unit]
    if unit is not Unit.COST or not any(row["cost"] and row["currency"] != budget.spec.currency for row in counted):
        return sum(row[column] for row in counted)
    rows = await connection.fetch(
        _SQL["exchanged_sums"], window.start, window.end, *asked, window.context_id, budget.spec.currency, timeout=3600
    )
    return sum(row["cost"] for row in rows if scope.admits(holds.call_of(row)))


async def lock(connection: asyncpg.Connection, balance_ids: Iterable[int]) -> dict[int, Balance]:
    """Lock balances in id order until the transaction ends, and read them."""
    rows = await connection.fetch(_SQL["lock"], sorted(set(balance_ids)))
    found = {}
    for row in rows:
        reached = Reached(row["alert_version"], row["spent_reached"], row["committed_reached"])
        found[row["balance_id"]] = replace(balance_from_row(row), reached=reached)
    return found


def balance_from_row(row: Any) -> Balance:
    """A balance as its row says, without what it has reached."""
    return Balance(row["spent"], row["held"], row["unconfirmed"], row["carried_in"], row["carried_out"])


async def move(connection: asyncpg.Connection, deltas: Mapping[int, Delta], movements: Sequence[Movement] = ()) -> None:
    """Add *deltas* to balances that are locked, and note in their order what moved them."""
    ids = sorted(deltas)
    columns = zip(*movements, strict=True) if movements else [()] * len(Movement._fields)
    await connection.execute(
        _SQL["move"],
        ids,
        [deltas[i].spent for i in ids],
        [deltas[i].held for i in ids],
        [deltas[i].unconfirmed for i in ids],
        *(list(column) for column in columns),
    )


async def reach(connection: asyncpg.Connection, reached: Mapping[int, Reached]) -> None:
    """Remember which thresholds locked balances have reached."""
    if reached:
        columns = [list(column) for column in zip(*reached.values(), strict=True)]
        await connection.execute(_SQL["reach"], list(reached), *columns)


async def budgets_of(connection: asyncpg.Connection, balance_ids: Iterable[int]) -> dict[int, tuple[UUID, Window]]:
    """balance_id -> budget_id and window, also of budgets that are no longer in force."""
    rows = await connection.fetch(_SQL["describe"], sorted(set(balance_ids)))
    return {
        row["balance_id"]: (row["budget_id"], Window(row["window_start"], row["window_end"], row["context_id"]))
        for row in rows
    }
