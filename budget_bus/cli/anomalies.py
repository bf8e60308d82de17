"""`budget anomalies`: what looks wrong in how money is spent."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from budget_bus.cli.gateway import ask
from budget_bus.cli.render import Format, FormatOption, show

anomalies = typer.Typer(help="List what looks wrong in how money is spent.", no_args_is_help=True)

_COLUMNS = {
    "At": "at",
    "Kind": "kind",
    "Scope": "scope",
    "Observed": "observed",
    "Expected": "expected",
    "Reason": "reason",
    "Ended at": "ended_at",
    "Pause id": "pause_id",
}


class Kind(StrEnum):
    """What there is."""

    VELOCITY = "velocity"
    LOOP = "loop"
    SILENCE = "silence"


@anomalies.command("list")
def list_anomalies(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those too that are over.")] = False,
    kind: Annotated[list[Kind] | None, typer.Option(help="Only of this kind; may be repeated.")] = None,
    component: Annotated[list[str] | None, typer.Option(help="Only of this component; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(help="Only the newest so many.", min=1, max=1000)] = 100,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    List what looks wrong now, newest first: spend outside of what was learnt, loops, silence.

    Example: budget anomalies list --all --kind loop --format csv
    """
    query = {
        "lasting": None if everything else "true",
        "kind": [one.value for one in kind or ()],
        "component": component or [],
        "page_size": limit,
    }
    _, page = ask("GET", "/api/anomalies", query=query)
    show(page["items"], _COLUMNS, form, empty="nothing looks wrong" if not everything else "nothing ever looked wrong")
