"""`budget changes`: who changed what."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from budget_bus.cli.gateway import ask
from budget_bus.cli.render import Format, FormatOption, cell, show

_COLUMNS = {"At": "at", "Who": "actor", "Kind": "kind", "Before": "before", "After": "after"}
_SHORT = {"At": "at", "Who": "actor", "Kind": "kind", "Of": "of", "Change": "change"}
# What tells one thing of a kind from another, the first that there is.
_NAMES = ("name", "key", "model", "topic", "request_id", "alert_id")


class KindName(StrEnum):
    """What was changed."""

    LIMIT = "limit"
    PRICE = "price"
    CONFIG = "config"
    ALLOCATION = "allocation"
    ALERT = "alert"
    HOLD = "hold"
    KEY = "key"
    PAUSE = "pause"
    SCHEDULE = "schedule"
    TOPIC = "topic"


def changes(
    *,
    kind: Annotated[list[KindName] | None, typer.Option(help="Only changes of this; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(help="Only the newest so many.", min=1, max=1000)] = 100,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    List who changed what, from what to what, newest first.

    Limits, prices, settings, keys, holds that an operator ended, acknowledged alerts, accepted losses. The table shows
    what differs; json and csv have all of before and after.

    Example: budget changes --kind limit --kind key
    """
    query = {"kind": [one.value for one in kind or []], "page_size": limit}
    _, page = ask("GET", "/api/changes", query=query)
    table = form is Format.TABLE
    rows = [{**one, "of": _of(one), "change": _difference(one)} for one in page["items"]] if table else page["items"]
    show(rows, _SHORT if table else _COLUMNS, form, empty="nothing was changed")


def _of(change: dict[str, Any]) -> str | None:
    said = change["after"] or change["before"] or {}
    return next((str(said[name]) for name in _NAMES if said.get(name) is not None), None)


def _difference(change: dict[str, Any]) -> str:
    """What is other than before; all of it is in the other formats."""
    before, after = change["before"], change["after"]
    if not (before and after):
        return "gone" if before else "new"
    names = dict.fromkeys((*before, *after))
    return ", ".join(
        f"{name}: {cell(before.get(name)) or '-'} -> {cell(after.get(name)) or '-'}"
        for name in names
        if before.get(name) != after.get(name)
    )
