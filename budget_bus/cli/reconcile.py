"""`budget reconcile`: the books beside the providers' own exports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from budget_bus.cli.gateway import ask, items
from budget_bus.cli.render import Format, FormatOption, show

reconcile = typer.Typer(help="Compare the books with what providers say that they charged.", no_args_is_help=True)

_PATH = "/api/reconciliation"
_COLUMNS = {
    "Provider": "provider",
    "Day": "day",
    "Model": "model",
    "Ours": "ours",
    "Theirs": "theirs",
    "Difference": "difference",
    "Drift %": "drift_percent",
    "Currency": "currency",
    "Requests": "requests",
    "Unpriced": "unpriced_requests",
}
_MOST_BYTES = 4 * 1024 * 1024


@reconcile.command("import")
def import_exports(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Exports, one provider each.")],
) -> None:
    """
    Import exports: the JSON of OpenAI's /v1/organization/costs or Anthropic's /v1/organizations/cost_report, or the
    CSV of costs of either. An export stands for all of its days from then on; the same again changes nothing.

    Example: budget reconcile import openai-costs.json
    """
    for file in files:
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise typer.BadParameter(f"{file}: {error.strerror or error}") from None
        if len(raw) > _MOST_BYTES:
            raise typer.BadParameter(f"{file}: has more than 4 MiB; export fewer days at a time")
        _, done = ask("POST", f"{_PATH}/exports", content=raw)
        print(
            f"{file}: {done['lines']} lines of {done['provider']} for {done['days']} days "
            f"({done['first_day']} to {done['last_day']}), {done['changed']} new or changed"
            + (f", {done['alerts']} alerts of drift" if done["alerts"] else "")
        )
        if done["missing_days"]:
            print(f"note: days without any bucket in it: {', '.join(done['missing_days'])}", file=sys.stderr)


@reconcile.command("show")
def show_drift(
    *,
    start: Annotated[str | None, typer.Option("--from", metavar="DAY", help="The first UTC day; 31 days ago.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="DAY", help="The day after the last; tomorrow.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Show what the books and the exports say of each model and day, and by how much they differ.

    Example: budget reconcile show --from 2026-10-01 --to 2026-11-01 --provider openai
    """
    query = {"start": start, "end": end, "provider": provider, "model": model}
    empty = "no export of these days was imported; `budget reconcile import` does"
    show(items(_PATH, query), _COLUMNS, form, empty=empty)
