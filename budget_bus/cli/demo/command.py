"""`budget demo`: play traffic against the running service, so that there is something to see."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budget_bus.cli.demo import limits
from budget_bus.cli.demo.traffic import COMPONENTS, calls, past_days, usage_of
from budget_bus.cli.find import find_service
from budget_bus.cli.gateway import ask, url_of
from budget_bus.errors import Rejected

if TYPE_CHECKING:
    from budget_bus.cli.demo.playing import Played
    from budget_bus.settings import Settings

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

_EVERYTHING = {"start": "2000-01-01T00:00:00Z", "end": "2199-01-01T00:00:00Z", "group_by": "component"}


def demo(
    *,
    seconds: Annotated[float, typer.Option(help="How long calls are made.", min=0, max=86_400)] = 120.0,
    rate: Annotated[float, typer.Option(help="Calls per second.", min=0.1, max=100)] = 2.0,
    history: Annotated[int, typer.Option(metavar="DAYS", help="Fill so many days before today.", min=0, max=730)] = 0,
    seed: Annotated[int, typer.Option(help="Another number makes other calls; the same one the same.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, also if the books are not empty.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the demo's limits away, and do nothing else.")] = False,
) -> None:
    """
    Play traffic of four made-up components against the running service: checks, usage, a denial, alerts, a model
    without a price.

    They are demo-rhetor, demo-codex, demo-ergon and demo-apollo; the limits that it makes are about these only. Its
    usage stays in the books for ever, since the ledger is immutable; --remove takes the limits away. Ctrl-C stops it.

    Example: budget demo --history 30 --seconds 60
    """
    if remove:
        _remove()
        return
    if not yes:
        _may_write()
    settings = find_service()
    if history:
        _fill(history, seed)
    count = round(seconds * rate)
    if not count:
        return
    made = limits.make(count)
    for budget in made:
        print(f"limit {budget['name']!r}: {budget['limit']} {budget['currency'] or budget['unit']} {budget['period']}")
    print(f"watch it: {url_of(settings)}", flush=True)
    print(f"making {count} calls, {rate:g} per second; Ctrl-C stops", flush=True)
    _tell(asyncio.run(_play(settings, seconds, rate, seed)), made)


async def _play(settings: Settings, seconds: float, rate: float, seed: int) -> Played:
    from budget_bus.cli.demo.playing import open_client, play

    async with open_client(settings) as client:
        return await play(calls(seed), seconds=seconds, rate=rate, say=_say, client=client)


def _may_write() -> None:
    """
    Raises:
        Rejected: there is something of others in the books, and nobody to ask. typer.Abort: it was asked, and denied.
    """
    _, usage = ask("GET", "/api/usage/monthly", query=_EVERYTHING)
    foreign = [group for group in usage["groups"] if group["key"]["component"] not in COMPONENTS]
    others = limits.others()
    if not foreign and not others:
        return
    calls_of = sum(group["requests"] for group in foreign)
    found = f"these books are not empty: {calls_of} calls of {len(foreign)} components, {len(others)} limits"
    if counting := [budget for budget in others if not budget["scope"]]:
        named = ", ".join(repr(budget["name"]) for budget in islice(counting, 5))
        found += f"; the demo's calls would count in {named} as well, as everybody's do"
    if not sys.stdin.isatty():
        raise Rejected(f"{found}. With --yes the demo writes into them all the same")
    print(found, file=sys.stderr)
    typer.confirm("Have the demo's usage in them, for ever?", abort=True, err=True)


def _fill(days: int, seed: int) -> None:
    from budget_bus.cli.demo.playing import record_past

    print(f"recording {days} days before today", flush=True)
    sent = record_past((usage_of(day, seed) for day in past_days(datetime.now(UTC).date(), days)), _say)
    print(f"recorded {sent} events; those that were there already are counted once", flush=True)


def _tell(played: Played, budgets: list[dict[str, Any]]) -> None:
    answers = ", ".join(f"{count} {action}" for action, count in sorted(played.actions.items()))
    print(f"{played.calls} calls: {answers or 'none'}" + (f"; {played.failed} got no answer" if played.failed else ""))
    print(f"recorded {played.cost} USD, and {played.unpriced} calls without a price")
    query = {"budget_id": [budget["budget_id"] for budget in budgets], "acknowledged": "false"}
    _, alerts = ask("GET", "/api/alerts", query=query)
    print(f"{len(alerts['items'])} open alerts; budget alerts list")
    print("why calls were denied: budget decisions list --action deny")
    print("what it came to: budget get-usage daily --group-by component,model")
    print("the limits go with: budget demo --remove; the usage stays, for the ledger is immutable")


def _remove() -> None:
    removed = limits.remove()
    print(f"removed {removed} limits of the demo; its usage stays, for the ledger is immutable")


def _say(line: str) -> None:
    print(line, flush=True)
