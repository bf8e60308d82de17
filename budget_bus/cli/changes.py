"""`budget changes`: who changed what."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from budget_bus.cli.gateway import ask
from budget_bus.cli.render import Format, FormatOption, show

_COLUMNS = {"At": "at", "Who": "actor", "Kind": "kind", "Before": "before", "After": "after"}


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

    Limits, prices, settings, keys, holds that an operator ended, acknowledged alerts, accepted losses.

    Example: budget changes --kind limit --kind key
    """
    query = {"kind": [one.value for one in kind or []], "page_size": limit}
    _, page = ask("GET", "/api/changes", query=query)
    show(page["items"], _COLUMNS, form, empty="nothing was changed")
