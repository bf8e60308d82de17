"""`python -m bench`: settling, checks, leases, restating, reports, exports, feeds, the dashboard."""

from __future__ import annotations

import argparse
import asyncio
import logging
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from bench import (
    checks,
    dashboard,
    export,
    feed,
    forecast,
    lease,
    machine,
    report,
    restate,
    settle,
    startup,
    usage_report,
)
from bench.stack import Stack, running_stack
from budget_bus.errors import BudgetError

# One round: the numbers of the floor, then ours.
_REPORTED = 10  # times as many ledger rows as are restated or exported

Measure = Callable[[Stack, argparse.Namespace], AsyncIterator[dict[str, float]]]


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; --quick only fills in what is not given."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure beside the floor of this machine.")
    parser.add_argument("--events", type=int, help="usage events to settle (default 50000, quick 5000)")
    parser.add_argument("--checks", type=int, help="checks one at a time; in flight 4 times as many (1000, quick 100)")
    parser.add_argument("--rounds", type=int, help="turns of floor and ours (default 3, quick 1)")
    parser.add_argument("--admissions", type=int, help="calls admitted from leases (default 1000000, quick 100000)")
    parser.add_argument(
        "--rows",
        type=int,
        help="ledger rows to restate, export and, 10 times, report (1000000, quick 20000)",
    )
    parser.add_argument("--clients", type=int, help="WebSocket clients of a feed (default 2000, quick 200)")
    parser.add_argument("--only", choices=[*_BENCHMARKS], help="one of these")
    parser.add_argument("--quick", action="store_true", help="a short look; too short to compare")
    parser.add_argument("--no-save", action="store_true", help="print only, write nothing to bench/results/")
    options = parser.parse_args(arguments)
    options.events = options.events or (5_000 if options.quick else 50_000)
    options.checks = options.checks or (100 if options.quick else 1_000)
    options.admissions = options.admissions or (100_000 if options.quick else 1_000_000)
    options.rows = options.rows or (20_000 if options.quick else 1_000_000)
    options.clients = options.clients or (200 if options.quick else 2_000)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for, on a stack of its own."""
    tell("starting PostgreSQL and Apache Kafka")
    async with running_stack() as stack:
        about = {"at": datetime.now(UTC).isoformat(), **machine.commit(), "machine": machine.machine(stack)}
        benchmarks = {
            name: await _in_turns(name, measure, stack, options)
            for name, measure in _BENCHMARKS.items()
            if options.only == name or (options.only is None and _is_possible(name))
        }
    return {
        **about,
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        "quick": options.quick,
        "rounds": options.rounds,
        "workload": f"{options.events:,} usage events; {options.checks:,} checks one at a time, {4 * options.checks:,} "
        f"in flight; {options.admissions:,} admissions; {options.rows:,} rows restated and exported, "
        f"{_REPORTED * options.rows:,} reported; {restate.SETTLED:,} events "
        f"settled meanwhile; {feed.ONE_BY_ONE + feed.TOGETHER} alerts to each of {options.clients:,} clients. Budgets "
        f"in settle: {settle.BUDGETS}.",
        "benchmarks": benchmarks,
    }


async def _settle(stack: Stack, options: argparse.Namespace) -> AsyncIterator[dict[str, float]]:
    size = await settle.fill(stack, options.events)
    tell(f"settle: {options.events:,} events of {size // options.events} bytes on the topic")
    for measure in (settle.floor, settle.ours):
        yield {"events_per_second": await measure(stack, options.events)}


async def _check(stack: Stack, options: argparse.Namespace) -> AsyncIterator[dict[str, float]]:
    size = checks.Size(alone=options.checks, together=4 * options.checks)
    for measure in (checks.floor, checks.ours):
        yield await measure(stack, size)


async def _lease(stack: Stack, options: argparse.Namespace) -> AsyncIterator[dict[str, float]]:
    yield lease.floor(options.admissions)
    yield await lease.ours(stack, options.admissions)


async def _restate(stack: Stack, options: argparse.Namespace) -> AsyncIterator[dict[str, float]]:
    yield await restate.floor(stack, options.rows)
    yield await restate.ours(stack, options.rows)


async def _feed(stack: Stack, options: argparse.Namespace) -> AsyncIterator[dict[str, float]]:
    yield await feed.floor(stack, options.clients)
    yield await feed.ours(stack, options.clients)


async def _dashboard(stack: Stack, _options: argparse.Namespace) -> AsyncIterator[dict[str, float]]:
    async for side in dashboard.rounds(stack):
        yield side


async def _report(stack: Stack, options: argparse.Namespace) -> AsyncIterator[dict[str, float]]:
    async for side in usage_report.rounds(stack, _REPORTED * options.rows):
        yield side


async def _export(stack: Stack, options: argparse.Namespace) -> AsyncIterator[dict[str, float]]:
    async for side in export.rounds(stack, options.rows):
        yield side


async def _forecast(_stack: Stack, options: argparse.Namespace) -> AsyncIterator[dict[str, float]]:
    for numbers in await asyncio.to_thread(forecast.measured, 79 if options.quick else 29):
        yield numbers


async def _startup(_stack: Stack, _options: argparse.Namespace) -> AsyncIterator[dict[str, float]]:
    yield await asyncio.to_thread(startup.floor)
    yield await asyncio.to_thread(startup.ours)


_BENCHMARKS: dict[str, Measure] = {
    "settle": _settle,
    "check": _check,
    "lease": _lease,
    "restate": _restate,
    "feed": _feed,
    "dashboard": _dashboard,
    "report": _report,
    "export": _export,
    "startup": _startup,
    "forecast": _forecast,
}


def _is_possible(name: str) -> bool:
    needs = {"dashboard": dashboard.lacking, "forecast": forecast.lacking}
    lacking = needs[name]() if name in needs else None
    if lacking:
        tell(f"{name}: left out, {lacking}")
    return not lacking


async def _in_turns(name: str, measure: Measure, stack: Stack, options: argparse.Namespace) -> dict[str, Any]:
    floor: list[dict[str, float]] = []
    ours: list[dict[str, float]] = []
    for number in range(1, options.rounds + 1):
        sides = iter((("floor", floor), ("ours", ours)))
        async for numbers in measure(await stack.new_topics(checks.FLOOR_TOPICS), options):
            label, side = next(sides)
            side.append(numbers)
            said = ", ".join(f"{key} {value:,.2f}" for key, value in numbers.items())
            tell(f"{name} {number}/{options.rounds} {label}: {said}")
    return report.compared(floor, ours)


def tell(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Exit status 0, or 1 when something could not be measured."""
    options = read_options(sys.argv[1:])
    # It tells at length that a new topic's leader is not known yet; what fails for good is raised.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
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
