"""`budget import`: the options, the order of the steps, and what is said."""

from __future__ import annotations

import asyncio
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from budget_bus.cli.find import find_service
from budget_bus.cli.importing.files import FileFormat

if TYPE_CHECKING:
    from budget_bus.cli.importing.checking import Checked, Totals
    from budget_bus.cli.importing.outcome import Outcome
    from budget_bus.cli.importing.sending import Sent
    from budget_bus.settings import Settings

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the options ask for."""

    form: FileFormat
    maps: list[str]
    sets: list[str]
    zone: ZoneInfo
    source: str | None
    skip_bad: bool
    wait: bool


def import_usage(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="CSV or JSONL files.", exists=True, dir_okay=False)
    ],
    *,
    form: Annotated[FileFormat, typer.Option("--format", help="How the files are written.")] = FileFormat.AUTO,
    maps: Annotated[
        list[str] | None, typer.Option("--map", metavar="FIELD=COLUMN", help="Take a field from a column; repeat it.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="The same for every row; repeat it.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="The zone of times that name none, e.g. Europe/Berlin.")] = "UTC",
    source: Annotated[
        str | None, typer.Option(help="What the file is known by, instead of its header and first row.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Send the good rows; write the bad ones to FILE.rejected.jsonl.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until all is counted, and say what became of the rows.")
    ] = True,
) -> None:
    """
    Import past usage through Kafka. Importing the same rows again, also after an interruption, counts nothing twice.

    Every row is checked before any is sent: a bad one stops the import. Columns that are called like a field
    (component, provider, model, occurred_at, input_tokens, output_tokens, tags.NAME, ...) are found by themselves.
    A row's identity is its content, and of equal rows which one it is, within its file: the file may be renamed and
    appended to. Give a file that lost its first rows (a rotated log) the same --source each time.

    Example: budget import trace.csv --set component=code --set provider=openai --set model=gpt-4o
    --map occurred_at=TIMESTAMP --map input_tokens=ContextTokens --map output_tokens=GeneratedTokens
    """
    if source is not None and len(files) > 1:
        raise typer.BadParameter("names one source; import its files one by one", param_hint="--source")
    wishes = Wishes(form, maps or [], sets or [], _zone(timezone), source, skip_bad, wait)
    settings = find_service(kafka=True, database=wait)
    if not asyncio.run(_run(settings, _check(files, wishes), wishes)):
        raise typer.Exit(1)


def _check(files: list[Path], wishes: Wishes) -> list[Checked]:
    from budget_bus.cli.importing.checking import MOST_ERRORS, check, check_rows, rejects_of
    from budget_bus.cli.importing.columns import make_plan
    from budget_bus.cli.importing.files import look_at
    from budget_bus.cli.importing.meter import Meter

    now = datetime.now(UTC)
    found, errors = [], []
    with Meter("checking") as meter:
        for path in files:
            file = look_at(path, wishes.form)
            plan = make_plan(wishes.maps, wishes.sets, file.columns(), wishes.zone)
            checked = check(file, plan, source=wishes.source, now=now)
            errors += check_rows(checked, meter, skip_bad=wishes.skip_bad)
            found.append(checked)
            if len(errors) >= MOST_ERRORS:
                break
    for line in errors[:MOST_ERRORS]:
        print(line, file=sys.stderr)
    if errors:
        more = f" (the first {MOST_ERRORS} errors)" if len(errors) >= MOST_ERRORS else ""
        print(f"error: nothing was sent{more}; mend these rows, or leave them out with --skip-bad", file=sys.stderr)
        raise typer.Exit(1)
    for checked in found:
        if checked.bad:
            name = rejects_of(checked.file.path)
            print(f"{checked.file.path}: {checked.bad} bad rows are left out; they and their reasons are in {name}")
    return found


async def _run(settings: Settings, checked: list[Checked], wishes: Wishes) -> bool:
    """Send, wait, tell; False when rows were not counted."""
    from budget_bus.cli.importing.checking import Totals
    from budget_bus.cli.importing.meter import Meter
    from budget_bus.cli.importing.sending import Sent, send
    from budget_bus.errors import BudgetUnavailable
    from budget_bus.producers.bus import BudgetBus

    sent, started = Sent(), monotonic()
    totals = Totals()
    for item in checked:
        totals += item.totals
    try:
        with Meter("sending", totals.requests) as meter:
            async with BudgetBus.from_settings(settings) as bus:
                for item in checked:
                    await send(bus, item.events(skip_bad=wishes.skip_bad), sent, meter)
    except (asyncio.CancelledError, BudgetUnavailable):
        print(_how_to_resume(meter.done, totals.requests), file=sys.stderr)
        raise
    seconds = monotonic() - started
    print(f"sent {totals.requests} rows in {seconds:.1f} s: {_sums(totals)}", flush=True)
    if not wishes.wait or not sent.last:
        return True
    try:
        return await _tell_outcome(settings, sent, started)
    except asyncio.CancelledError:
        print("all rows are in Kafka and will be counted; importing again only looks what became of them")
        raise


async def _tell_outcome(settings: Settings, sent: Sent, started: float) -> bool:
    from budget_bus.cli.importing.meter import Meter
    from budget_bus.cli.importing.outcome import outcome_of, wait_for_settler
    from budget_bus.store.admin import open_connection

    async with open_connection(settings) as connection:
        with Meter("counting") as meter:
            await wait_for_settler(connection, sent, meter)
        outcome = await outcome_of(connection, sent)
    for line in _outcome_lines(outcome, monotonic() - started):
        print(line)
    return not (outcome.conflicts or outcome.missing)


def _outcome_lines(outcome: Outcome, seconds: float) -> list[str]:
    lines = [
        f"counted {outcome.counted} rows after {seconds:.1f} s; {outcome.counted_before} were counted before",
        f"in the ledger these rows cost {outcome.cost} {outcome.currency}",
    ]
    if outcome.unpriced:
        lines[-1] += f", {outcome.unpriced} of them without a known price"
    if outcome.conflicts:
        lines.append(
            f"error: {outcome.conflicts} rows are in the ledger with other content (imported before with another --map "
            "or --set?); what was recorded first stands"
        )
    if outcome.missing:
        lines.append(f"error: {outcome.missing} rows were refused; `budget dlq list usage.recorded.dlq` says why")
    return lines


def _sums(totals: Totals) -> str:
    texts = f", and {totals.texts} rows whose texts are counted by the service" if totals.texts else ""
    return (
        f"{totals.requests} requests, {totals.input_tokens} input and {totals.output_tokens} output tokens, "
        f"{totals.input_tokens + totals.output_tokens} in all{texts}"
    )


def _how_to_resume(done: int, total: int) -> str:
    again = shlex.join(["budget", *sys.argv[1:]])
    return f"stopped: {done} of {total} rows are acknowledged. Run it again to go on; none is counted twice:\n  {again}"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise typer.BadParameter(
            f"{name!r} is not an IANA time zone such as Europe/Berlin", param_hint="--timezone"
        ) from None
