"""What operators ask of the books: whether they are right, how far they are, and to go on after a loss."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from budget_bus.errors import BudgetUnavailable, ConfigError
from budget_bus.money import format_nanos
from budget_bus.policy.windows import Window
from budget_bus.settings import Settings
from budget_bus.store.balances import ledger_sum
from budget_bus.store.catalogue import budget_from_row
from budget_bus.store.changes import Noted, note
from budget_bus.store.sql import queries

_SQL = queries("admin")
_RESTATEMENTS = queries("restatements")
FIRST_HOLD = UUID(int=0)
_HOLDS_AT_ONCE = 10_000
_ROLLUP_NUMBERS = (
    "requests", "input_tokens", "output_tokens", "cost", "unpriced_requests", "unpriced_tokens",
    "cache_read_input_tokens", "late_requests", "late_cost",
)  # fmt: skip


class Difference(NamedTuple):
    """A number in the books that is not what it must equal, both written in their unit."""

    where: str
    number: str
    kept: str
    expected: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check of the books looked at, and the first differences it found."""

    balances: int
    days: int
    holds: int
    differences: tuple[Difference, ...]


class Recorded(NamedTuple):
    """The ledger's row of an event: what tells it from others, the record that it came with, and its cost."""

    digest: bytes
    topic: str
    part: int
    record_offset: int
    cost_nanos: int | None
    currency: str


# How much of how much is done, and of what.
Progress = Callable[[int, int, str], None]


@asynccontextmanager
async def open_connection(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """
    One connection without the time limits of the pool, for an operator can wait.

    Raises:
        ConfigError: no database is configured.
        BudgetUnavailable: the database does not answer.
    """
    if settings.database_url is None:
        raise ConfigError("BUDGET_DATABASE_URL is not set; `budget up` starts a database and sets it")
    try:
        connection = await asyncpg.connect(
            settings.database_url.get_secret_value(),
            timeout=15,
            server_settings={"application_name": "budget_bus.cli", "jit": "off"},
        )
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        raise BudgetUnavailable(f"the database does not answer: {error}") from None
    try:
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        yield connection
    except asyncpg.UndefinedTableError:
        raise ConfigError("the database has no books yet; `budget db migrate` makes them") from None
    except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
        raise BudgetUnavailable(f"the database went away: {error}") from None
    finally:
        connection.terminate()


async def check_books(connection: asyncpg.Connection, *, progress: Progress, most: int = 20) -> Findings:
    """
    Derive every balance and rollup anew from ledger and holds, compare, and see that holds and ledger agree.

    All is read in one snapshot: batches are transactions, so it is right while events flow. Stops after *most*
    differences.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        held = {row["balance_id"]: row for row in await connection.fetch(_SQL["held_amounts"])}
        rows = await connection.fetch(_SQL["balances"])
        found: list[Difference] = []
        for done, row in enumerate(rows):
            progress(done, len(rows), "balances")
            found += await check_balance(connection, row, held.get(row["balance_id"]))
            if len(found) >= most:
                return Findings(done + 1, 0, 0, tuple(found[:most]))
        days = [row["day"] for row in await connection.fetch(_SQL["days"])]
        for done, day in enumerate(days):
            progress(done, len(days), "days of rollups")
            found += await check_day(connection, day, most - len(found))
            found += await check_settling(connection, day, most)
            if len(found) >= most:
                return Findings(len(rows), done + 1, 0, tuple(found[:most]))
        holds, after = 0, FIRST_HOLD
        while (page := await hold_page(connection, after)).found:
            found += await check_holds(connection, after, page.last)
            holds, after = holds + page.found, page.last
            progress(holds, holds, "holds")
        return Findings(len(rows), len(days), holds, tuple(found[:most]))


async def check_balance(connection: asyncpg.Connection, row: Any, held: Any) -> list[Difference]:
    """What of one balance is not the sum of its ledger rows and of its holds (*held*: their sums, None for none)."""
    budget = budget_from_row(row)
    expected = {"held": held["held"] if held else 0, "unconfirmed": held["unconfirmed"] if held else 0}
    # Nothing is booked on a removed budget, but the holds that it had are still given back.
    if row["in_force"]:
        window = Window(row["window_start"], row["window_end"], row["context_id"])
        expected["spent"] = await ledger_sum(connection, budget, window)
    where = f"balance {row['balance_id']} of budget {budget.budget_id} ({budget.spec.name}), {_at(row['window_start'])}"
    return [
        Difference(where, name, budget.write(row[name]), budget.write(amount))
        for name, amount in expected.items()
        if row[name] != amount
    ]


async def check_day(connection: asyncpg.Connection, day: datetime, most: int) -> list[Difference]:
    """
    What of the rollups of a UTC day is not the sum of its ledger rows, and what of its hours is not the sum of its
    rollups; at most *most* buckets of either.
    """
    found = []
    for query, what in ((_SQL["rollup_differences"], "rollup"), (_SQL["hour_differences"], "hour of rollups")):
        for row in await connection.fetch(query, day, day + timedelta(days=1), most):
            key = [row["component"], row["provider"], row["model"], row["tier"]]
            key += [row[name] for name in ("task_type", "user_name", "context_id") if row[name]]
            where = f"{what} {_at(row['bucket_start'])} {' / '.join(key)}, {row['currency']}"
            for name, kept, expected in zip(_ROLLUP_NUMBERS, row["kept_sums"], row["expected_sums"], strict=True):
                if kept != expected:
                    write = format_nanos if name.endswith("cost") else str
                    found.append(Difference(where, name, write(kept), write(expected)))
    return found


class HoldPage(NamedTuple):
    """The next holds in the order of their ids: the last id, and how many they are."""

    last: UUID
    found: int


async def hold_page(connection: asyncpg.Connection, after: UUID) -> HoldPage:
    """Where the page of holds after an id ends; `found` is 0 at the end."""
    return HoldPage(*await connection.fetchrow(_SQL["hold_page"], after, _HOLDS_AT_ONCE))


async def check_holds(connection: asyncpg.Connection, after: UUID, upto: UUID) -> list[Difference]:
    """Settled holds of a page of which the ledger has no event that settled them. Leases are settled by many."""
    return [
        Difference(
            f"hold {row['request_id']}", "settled by", str(row["event_id"]), "an event of the ledger that names it"
        )
        for row in await connection.fetch(_SQL["hold_differences"], after, upto)
    ]


async def check_settling(connection: asyncpg.Connection, day: datetime, most: int) -> list[Difference]:
    """Events of a UTC day that settled a hold which is not there, is not settled, or by another event."""
    rows = await connection.fetch(_SQL["settling_differences"], day, day + timedelta(days=1), most)
    return [
        Difference(
            f"hold {row['request_id']}",
            "settled by",
            "no such hold" if row["state"] is None else f"{row['settled_by'] or 'nothing'} ({row['state']})",
            str(row["event_id"]),
        )
        for row in rows
    ]


async def check_one_balance(connection: asyncpg.Connection, balance_id: int) -> list[Difference]:
    """As check_balance, of a balance by its id: its numbers and their sums are of one moment."""
    if connection.is_in_transaction():
        row = await connection.fetchrow(_SQL["balance"], balance_id)
        held = await connection.fetchrow(_SQL["held_amount"], balance_id)
        return await check_balance(connection, row, held) if row else []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await check_one_balance(connection, balance_id)


async def checkable(connection: asyncpg.Connection) -> tuple[list[int], list[datetime]]:
    """What there is to check one by one: the ids of balances, and the UTC days of the ledger and the rollups."""
    balance_ids = [row["balance_id"] for row in await connection.fetch(_SQL["balances"])]
    return balance_ids, [row["day"] for row in await connection.fetch(_SQL["days"])]


async def take_check_lock(connection: asyncpg.Connection, lock: int) -> bool:
    """Whether nobody else has *lock*; it is held until it is given back, or the connection ends."""
    return bool(await connection.fetchval(_RESTATEMENTS["lock"], lock))


async def give_check_lock(connection: asyncpg.Connection, lock: int) -> None:
    """Let another one check."""
    await connection.execute(_RESTATEMENTS["unlock"], lock)


async def positions(connection: asyncpg.Connection, topic: str) -> dict[int, int]:
    """Partition -> the next offset to apply; everything before it is in the books."""
    return {row["part"]: row["next_offset"] for row in await connection.fetch(_SQL["positions"], topic)}


async def accept_loss(
    connection: asyncpg.Connection, topic: str, part: int, *, lost_from: int, begin: int, actor: str, at: datetime
) -> bool:
    """Go on at *begin*, the log's beginning, audited; False when the books do not stand at *lost_from* any more."""
    async with connection.transaction():
        if await connection.execute(_SQL["accept_loss"], topic, part, lost_from, begin) != "UPDATE 1":
            return False
        before, after = ({"topic": topic, "partition": part, "next_offset": offset} for offset in (lost_from, begin))
        await note(connection, Noted("topic", before, after, topic), actor=actor, at=at)
        return True


async def where_recorded(connection: asyncpg.Connection, event_ids: Sequence[UUID]) -> dict[UUID, Recorded]:
    """The ledger's rows of those of *event_ids* that it has."""
    rows = await connection.fetch(_SQL["where_recorded"], event_ids)
    return {row["event_id"]: Recorded(*(row[name] for name in Recorded._fields)) for row in rows}


def _at(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
