"""`budget db`: the schema of the books, and whether they are right."""

from __future__ import annotations

import asyncio
import sys
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from budget_bus.cli.find import find_service
from budget_bus.cli.render import Format, FormatOption, show
from budget_bus.errors import ConfigError

if TYPE_CHECKING:
    from budget_bus.settings import Settings
    from budget_bus.store.admin import Difference, Findings

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

database = typer.Typer(help="Bring the database up to date; check the books.", no_args_is_help=True)

_COLUMNS = {"Where": "where", "Number": "number", "In the books": "kept", "Must be": "expected"}
_REPORT_EVERY_S = 2.0


@database.command("migrate")
def migrate() -> None:
    """
    Bring the database to this release's schema. Safe to run from any number of processes at once.

    Example: BUDGET_DATABASE_URL=postgresql://budget@db/budget budget db migrate
    """
    from budget_bus.store.migrate import migrate as apply

    url = find_service(database=True).database_url
    if url is None:
        raise ConfigError("BUDGET_DATABASE_URL is not set")
    applied = asyncio.run(apply(url.get_secret_value()))
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("up to date")


@database.command("check")
def check(
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Make anew what differs, from ledger and holds.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before repairing.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Derive every balance and rollup anew from the ledger and the holds, compare with the books, and see that holds and
    ledger agree on what was settled.

    Reads one snapshot, so it is right while events flow. Exit status 1 and the first differences when there are any.
    With --repair, each balance and each day of rollups that differs is made anew, while batches wait.

    Example: budget db check --repair
    """
    settings = find_service(database=True)
    findings = asyncio.run(_check(settings))
    rows = [difference._asdict() for difference in findings.differences]
    if rows or form is not Format.TABLE:
        show(rows, _COLUMNS, form)
    if rows and repair:
        if sys.stdin.isatty() and not yes:
            typer.confirm("Make anew what differs?", abort=True, err=True)
        repaired = asyncio.run(_repair(settings))
        print(f"repaired {len(repaired)} numbers, each in the audit feed", file=sys.stderr)
        findings = asyncio.run(_check(settings))
        rows = [difference._asdict() for difference in findings.differences]
        if rows:
            show(rows, _COLUMNS, form)
            if any(row["where"].startswith("hold ") for row in rows):
                print(
                    "what a hold says of itself is not repaired: `budget decisions show` has its story", file=sys.stderr
                )
    if rows:
        print("error: the books do not add up; these are the first differences", file=sys.stderr)
        raise typer.Exit(1)
    print(
        f"the books add up: {findings.balances} balances equal the sums of ledger and holds, "
        f"the rollups of {findings.days} days equal their ledger rows, {findings.holds} holds agree with the ledger",
        file=sys.stdout if form is Format.TABLE else sys.stderr,
    )


async def _check(settings: Settings) -> Findings:
    from budget_bus.store.admin import check_books, open_connection

    async with open_connection(settings) as connection:
        return await check_books(connection, progress=Reporter())


async def _repair(settings: Settings) -> list[Difference]:
    from budget_bus.store.admin import open_connection
    from budget_bus.store.repair import repair_books

    async with open_connection(settings) as connection:
        return await repair_books(connection, actor="cli", progress=Reporter())


class Reporter:
    """Says on stderr how far a long check is, and nothing of a short one."""

    def __init__(self) -> None:
        self._said = monotonic()

    def __call__(self, done: int, total: int, what: str) -> None:
        if monotonic() - self._said >= _REPORT_EVERY_S:
            self._said = monotonic()
            print(f"{done} of {total} {what}", file=sys.stderr, flush=True)
