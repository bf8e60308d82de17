"""Leases: how many calls a second one process admits by itself, beside a loop that only compares and subtracts."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.stack import Stack, unless_it_dies
from budget_bus.errors import BudgetUnavailable
from budget_bus.policy.budget import LimitSpec, Policy, Unit
from budget_bus.policy.scope import parse_scope
from budget_bus.policy.windows import Period
from budget_bus.producers import BudgetBus, Lease
from budget_bus.producers.lessee import Lessee
from budget_bus.store.limits import set_limit
from budget_bus.store.pool import open_pool

SCOPE: dict[str, Any] = {"component": "bench", "provider": "openai", "model": "gpt-4o"}
INPUT, OUTPUT = 1000, 200
NANOS = 4_500_000  # of a call of that size
LEASE = Lease(calls=100_000, ttl_s=120)
_PATIENCE_S = 300
_START_S = 60


async def ours(stack: Stack, count: int) -> dict[str, float]:
    """One bus with leases, a decider, and three hard budgets that the leases are taken from."""
    database_url = await stack.new_database(migrated=True)
    async with open_pool(stack.settings(database_url), size=1) as pool:
        huge = 10**15
        for unit, currency in ((Unit.COST, "USD"), (Unit.TOKENS, None), (Unit.REQUESTS, None)):
            spec = LimitSpec(unit.value, parse_scope({}), Period.DAILY, unit, huge, currency, Policy.HARD_LIMIT)
            await set_limit(pool, spec, actor="bench")
    async with (
        stack.role("decider", database_url) as child,
        BudgetBus(stack.bootstrap_servers, topic_prefix=stack.prefix, lease=LEASE) as bus,
    ):
        return await unless_it_dies(child, _measure(bus, count), patience_s=_PATIENCE_S)


def floor(count: int) -> dict[str, float]:
    """The same sums on three local numbers, without a call, a clock or a ticket."""
    cost = tokens = calls = 10**18
    began = time.perf_counter()
    for _ in range(count):
        if cost >= NANOS and tokens >= INPUT + OUTPUT and calls >= 1:
            cost -= NANOS
            tokens -= INPUT + OUTPUT
            calls -= 1
        cost += NANOS
        tokens += INPUT + OUTPUT
        calls += 1
    voided = count / (time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(count):
        if cost >= NANOS and tokens >= INPUT + OUTPUT and calls >= 1:
            cost -= NANOS
            tokens -= INPUT + OUTPUT
            calls -= 1
    return {"voided_per_second": voided, "used_up_per_second": count / (time.perf_counter() - began)}


async def _measure(bus: BudgetBus, count: int) -> dict[str, float]:
    lessee = await bus.lessee(**SCOPE)
    await _answered_once(bus)
    return {
        "voided_per_second": _voided(lessee, count),
        "used_up_per_second": await _used_up(bus, lessee, count),
    }


def _voided(lessee: Lessee, count: int) -> float:
    """Admissions per second from one lease, each of which is taken back."""
    admit, void = lessee.admit, lessee.void
    began = time.perf_counter()
    for _ in range(count):
        ticket = admit(INPUT, OUTPUT)
        if ticket is None:
            raise RuntimeError("the lease was over before its time: that is not what is to be measured")
        void(ticket)
    return count / (time.perf_counter() - began)


async def _used_up(bus: BudgetBus, lessee: Lessee, count: int) -> float:
    """Admissions per second when none is taken back, so that lease after lease is used up and the next one taken."""
    admitted = 0
    began = time.perf_counter()
    while admitted < count:
        while lessee.admit(INPUT, OUTPUT):
            admitted += 1
        answer = await bus.check(**SCOPE, input_tokens=INPUT, max_output_tokens=OUTPUT, timeout_s=10)
        if not answer.allowed:
            raise RuntimeError(f"not what is to be measured: {answer}")
        admitted += 1
    return admitted / (time.perf_counter() - began)


async def _answered_once(bus: BudgetBus) -> None:
    """Until there is a first lease; the decider is starting."""
    deadline = asyncio.get_running_loop().time() + _START_S
    while True:
        try:
            answer = await bus.check(**SCOPE, input_tokens=INPUT, max_output_tokens=OUTPUT)
            if answer.estimate_source == "lease":
                return
        except BudgetUnavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
