"""`python -m bench`: measure settling and checks beside their floors; see `--help`."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from bench import checks, machine, report, settle
from bench.stack import Stack, running_stack
from budget_bus.errors import BudgetError

Measure = Callable[[], Awaitable[dict[str, float]]]


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; --quick only fills in what is not given."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure beside the floor of this machine.")
    parser.add_argument("--events", type=int, help="usage events to settle (default 50000, quick 5000)")
    parser.add_argument("--checks", type=int, help="checks one at a time; in flight 4 times as many (1000, quick 100)")
    parser.add_argument("--rounds", type=int, help="turns of floor and ours (default 3, quick 1)")
    parser.add_argument("--only", choices=("settle", "check"), help="one of the two")
    parser.add_argument("--quick", action="store_true", help="a short look; too short to compare")
    parser.add_argument("--no-save", action="store_true", help="print only, write nothing to bench/results/")
    options = parser.parse_args(arguments)
    options.events = options.events or (5_000 if options.quick else 50_000)
    options.checks = options.checks or (100 if options.quick else 1_000)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for, on a stack of its own."""
    tell("starting PostgreSQL and Apache Kafka")
    async with running_stack() as stack:
        about = {"at": datetime.now(UTC).isoformat(), **machine.commit(), "machine": machine.machine(stack)}
        await stack.make_topics(checks.FLOOR_TOPICS)
        benchmarks = {}
        if options.only != "check":
            benchmarks["settle"] = await _settle(stack, options)
        if options.only != "settle":
            benchmarks["check"] = await _check(stack, options)
    return {
        **about,
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "quick": options.quick,
        "rounds": options.rounds,
        "workload": f"{options.events:,} usage events; {options.checks:,} checks one at a time, {4 * options.checks:,} "
        f"in flight. Budgets in settle: {settle.BUDGETS}.",
        "benchmarks": benchmarks,
    }


async def _settle(stack: Stack, options: argparse.Namespace) -> dict[str, Any]:
    size = await settle.fill(stack, options.events)
    tell(f"settle: {options.events:,} events of {size // options.events} bytes on the topic")

    async def floor() -> dict[str, float]:
        return {"events_per_second": await settle.floor(stack, options.events)}

    async def ours() -> dict[str, float]:
        return {"events_per_second": await settle.ours(stack, options.events)}

    return await _in_turns("settle", floor, ours, options.rounds)


async def _check(stack: Stack, options: argparse.Namespace) -> dict[str, Any]:
    size = checks.Size(alone=options.checks, together=4 * options.checks)
    return await _in_turns("check", lambda: checks.floor(stack, size), lambda: checks.ours(stack, size), options.rounds)


async def _in_turns(name: str, floor: Measure, ours: Measure, rounds: int) -> dict[str, Any]:
    low: list[dict[str, float]] = []
    high: list[dict[str, float]] = []
    for number in range(1, rounds + 1):
        for label, measure, into in (("floor", floor, low), ("ours", ours, high)):
            into.append(await measure())
            numbers = ", ".join(f"{key} {value:,.2f}" for key, value in into[-1].items())
            tell(f"{name} {number}/{rounds} {label}: {numbers}")
    return report.compared(low, high)


def tell(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Exit status 0, or 1 when something could not be measured."""
    options = read_options(sys.argv[1:])
    try:
        result = asyncio.run(run(options))
    except BudgetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for name, numbers in result["benchmarks"].items():
        print("\n".join(report.lines(name, numbers)))
    if not options.no_save:
        print(f"written: {report.save(result).relative_to(report.RESULTS.parents[1])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
