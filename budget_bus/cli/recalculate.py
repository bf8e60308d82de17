"""`budget recalculate`: restate what is in the ledger at today's prices."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from budget_bus.cli.find import find_service
from budget_bus.cli.render import Format, FormatOption, show

if TYPE_CHECKING:
    from budget_bus.bookkeeping.restating import Differences
    from budget_bus.settings import Settings
    from budget_bus.store.restatements import Range

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

_COLUMNS = {
    "Provider": "provider",
    "Model": "model",
    "Rows": "rows",
    "Changed": "changed",
    "Newly priced": "newly_priced",
    "Without price": "without_price",
    "Cost before": "cost_before",
    "Cost after": "cost_after",
    "Difference": "difference",
    "Currency": "currency",
}


class Period(StrEnum):
    """Whose current window is recalculated."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


def recalculate(
    *,
    period: Annotated[Period | None, typer.Option(help="Only the current hour, day, week or month.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="INSTANT", help="From then on, e.g. 2026-01-31 or with a time.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="INSTANT", help="Until before then.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model, as it was recorded.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Restate recorded costs at the prices that hold today for their time. Shows the difference first, and asks.

    Ledger, rollups and balances move together, what was charged before is kept, and closed windows that change are
    alerted. Run again it finds nothing to do; a run that was killed goes on where it was.

    Example: budget recalculate --period daily --dry-run
    """
    settings = find_service(database=True)
    since, until = _times(settings, period, start, end)
    wanted = _range(since, until, provider, model)
    found = asyncio.run(_compare(settings, wanted))
    rows = _report(found)
    show(rows, _COLUMNS, form, empty="nothing was recorded then")
    changed = sum(row["changed"] for row in rows)
    if not changed:
        print("every cost is what it must be" if rows else "", file=sys.stderr)
    if dry_run:
        return
    if changed and sys.stdin.isatty() and not yes:
        typer.confirm(f"Restate {changed} rows?", abort=True, err=True)
    done = asyncio.run(_restate(settings, wanted))
    print(f"restated {done} rows", file=sys.stderr)


def _times(
    settings: Settings, period: Period | None, start: str | None, end: str | None
) -> tuple[datetime | None, datetime | None]:
    from budget_bus.policy import windows

    if period is not None and (start or end):
        raise typer.BadParameter("does not go with --from and --to", param_hint="--period")
    if period is not None:
        window = windows.window_of(windows.Period(period.value), settings.timezone, datetime.now(UTC))
        return window.start, window.end
    since, until = _instant("--from", start), _instant("--to", end)
    if since and until and since >= until:
        raise typer.BadParameter("must be later than --from", param_hint="--to")
    return since, until


def _range(since: datetime | None, until: datetime | None, provider: str | None, model: str | None) -> Range:
    from budget_bus.providers.names import canonical_provider
    from budget_bus.store.restatements import Range

    return Range(since, until, canonical_provider(provider) if provider else None, model)


def _instant(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is no instant; write 2026-01-31 or 2026-01-31T12:00:00Z"
        raise typer.BadParameter(message, param_hint=option) from None
    if not 2000 <= at.year < 2200:
        raise typer.BadParameter("must lie between the years 2000 and 2200", param_hint=option)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


async def _compare(settings: Settings, wanted: Range) -> Differences:
    from budget_bus.bookkeeping.restating import difference
    from budget_bus.cli.database import Reporter
    from budget_bus.providers.prices import PriceBook
    from budget_bus.store.admin import open_connection

    async with open_connection(settings) as connection:
        return await difference(connection, PriceBook(), wanted, progress=Reporter())


async def _restate(settings: Settings, wanted: Range) -> int:
    from budget_bus.bookkeeping.restating import Restating
    from budget_bus.cli.database import Reporter
    from budget_bus.policy.budget import Policy
    from budget_bus.providers.prices import PriceBook
    from budget_bus.store.admin import open_connection
    from budget_bus.store.catalogue import Catalogue

    async with open_connection(settings) as connection:
        work = Restating(
            connection=connection,
            catalogue=Catalogue(Policy(settings.enforcement_level)),
            prices=PriceBook(),
            wanted=wanted,
            actor="cli",
            reason="recalculated by command",
            now=lambda: datetime.now(UTC),
            progress=Reporter(),
        )
        return await work.run()


def _report(found: Differences) -> list[dict[str, Any]]:
    from budget_bus.money import format_nanos

    return [
        {
            "provider": provider,
            "model": model,
            "rows": one.rows,
            "changed": one.changed,
            "newly_priced": one.newly_priced,
            "without_price": one.without_price,
            "cost_before": format_nanos(one.before),
            "cost_after": format_nanos(one.after),
            "difference": format_nanos(one.after - one.before),
            "currency": currency,
        }
        for (provider, model, currency), one in sorted(found.items())
    ]
