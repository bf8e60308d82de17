"""
A lessee as a process of its own: admits as fast as it can until it is denied, and logs what it admitted.

`python lessee_process.py BOOTSTRAP_SERVERS TOPIC_PREFIX FILE`. Each admitted call is one line of FILE, its input and
output tokens, written before it counts as admitted: what is in no file was never made. It ends by itself when it is
denied.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path
from typing import Any

from budget_bus.errors import BudgetUnavailable
from budget_bus.producers import BudgetBus, Lease
from budget_bus.producers.lessee import Lessee

SCOPE: dict[str, Any] = {"component": "rhetor", "provider": "openai", "model": "gpt-4o"}
SIZES = ((1000, 200), (400, 100), (1000, 20), (2500, 300))  # the last is larger than most leases are taken for


async def main(servers: str, prefix: str, file: str) -> None:
    log = os.open(Path(file), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    chance = random.Random(os.getpid())
    async with BudgetBus(servers, topic_prefix=prefix, lease=Lease(calls=500, ttl_s=3, drain_s=3)) as bus:
        lessee = await bus.lessee(**SCOPE)
        while True:
            await admit_what_fits(lessee, log, chance)
            size = chance.choice(SIZES)
            try:
                answer = await bus.check(**SCOPE, input_tokens=size[0], max_output_tokens=size[1], timeout_s=10)
            except BudgetUnavailable:
                continue
            if not answer.allowed:
                return
            os.write(log, b"%d %d\n" % size)


async def admit_what_fits(lessee: Lessee, log: int, chance: random.Random) -> None:
    """Admit from the lease until nothing fits. Some calls are voided, before they are logged, and some settled."""
    kept = []
    while True:
        size = chance.choice(SIZES)
        ticket = lessee.admit(*size)
        if ticket is None:
            break
        if chance.random() < 0.2:
            lessee.void(ticket)
            continue
        os.write(log, b"%d %d\n" % size)
        if len(kept) < 5:
            kept.append(lessee.settle(ticket, input_tokens=size[0], output_tokens=size[1]))
    await asyncio.gather(*kept, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
