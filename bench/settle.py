"""Settling: how many usage events a second one process brings into the books."""

from __future__ import annotations

import asyncio
import json
import secrets
import time

import asyncpg

from bench.load import COMPONENTS, produce
from bench.stack import Stack, finished, unless_it_dies
from budget_bus.events.topics import USAGE_RECORDED
from budget_bus.policy.budget import LimitSpec, Policy, Unit
from budget_bus.policy.scope import parse_scope
from budget_bus.policy.windows import Period
from budget_bus.store.limits import set_limit
from budget_bus.store.pool import open_pool

BUDGETS = "a daily and a monthly one over all, and a daily one for each of 3 components; every event matches 2 or 3"
_PATIENCE_S = 600
_READ = "SELECT COALESCE(sum(next_offset), 0)::bigint FROM bus_offset WHERE topic = $1"


async def fill(stack: Stack, events: int) -> int:
    """Put the events on the topic that floor and ours read; returns their size in bytes."""
    return await produce(stack.bootstrap_servers, stack.prefix + USAGE_RECORDED, events)


async def ours(stack: Stack, events: int) -> float:
    """Events per second of one settler with some budgets to keep."""
    database_url = await stack.new_database(migrated=True)
    await set_budgets(stack, database_url)
    watch = await asyncpg.connect(database_url)
    try:
        async with stack.role("settler", database_url) as child:
            rate = await unless_it_dies(child, _rate(watch, events), patience_s=_PATIENCE_S)
        booked = await watch.fetchval("SELECT count(*) FROM ledger")
        if booked != events:
            raise RuntimeError(f"{booked} of {events} events are in the ledger: a wrong result has no speed")
        return rate
    finally:
        await watch.close()


async def floor(stack: Stack, events: int) -> float:
    """Events per second of the bare loop."""
    database_url = await stack.new_database(migrated=False)
    arguments = (stack.bootstrap_servers, stack.prefix + USAGE_RECORDED, f"floor.{secrets.token_hex(4)}", database_url)
    async with stack.floor("floor_settle", *arguments, str(events)) as child:
        await finished(child, patience_s=_PATIENCE_S)
        result = json.loads(child.log.read_text().splitlines()[-1])
    return float(result["events"] / result["seconds"])


async def _rate(watch: asyncpg.Connection, events: int) -> float:
    """The time runs from the end of the first batch, so that no start-up is in it: as in the floor."""
    first, began = 0, 0.0
    while True:
        read = await watch.fetchval(_READ, USAGE_RECORDED)
        if read and not first:
            first, began = read, time.perf_counter()
        if read >= events:
            return float((events - first) / (time.perf_counter() - began))
        await asyncio.sleep(0.01)


async def set_budgets(stack: Stack, database_url: str) -> None:
    """The budgets that `BUDGETS` tells of."""
    async with open_pool(stack.settings(database_url), size=1) as pool:
        huge = 10**15  # a million dollars in nanos, so that no alert is raised
        everything = parse_scope({})
        specs = [
            LimitSpec("daily", everything, Period.DAILY, Unit.COST, huge, "USD", Policy.HARD_LIMIT),
            LimitSpec("monthly tokens", everything, Period.MONTHLY, Unit.TOKENS, huge, None, Policy.WARN),
        ]
        specs += [
            LimitSpec(name, parse_scope({"component": name}), Period.DAILY, Unit.COST, huge, "USD", Policy.WARN)
            for name in COMPONENTS[:3]
        ]
        for spec in specs:
            await set_limit(pool, spec, actor="bench")
