"""`budget serve ROLE`: one role in this process, against the configured database and broker."""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from typing import Annotated

import typer

from budget_bus.cli.up import up

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.


class RoleName(StrEnum):
    """What can be served; `all` is every role in one process, the notifier if there is somebody to tell."""

    GATEWAY = "gateway"
    SETTLER = "settler"
    DECIDER = "decider"
    RELAY = "relay"
    BOOKKEEPER = "bookkeeper"
    NOTIFIER = "notifier"
    SPECIALIST = "specialist"
    ALL = "all"


def serve(role: Annotated[RoleName, typer.Argument(help="Which role to run.")]) -> None:
    """
    Run one role against the configured database and broker, until Ctrl-C.

    Example: budget serve settler
    """
    from budget_bus.roles import run
    from budget_bus.settings import load_settings

    asyncio.run(run(role.value, load_settings()))


def serve_or_up(debug: Annotated[bool, typer.Option("--debug", help="Log everything.")] = False) -> None:
    """What `python -m budget.api.app` runs: the gateway, or `budget up` when no database and no broker is set."""
    from budget_bus.settings import load_settings

    if debug:
        os.environ.update(BUDGET_DEBUG="true", BUDGET_LOG_LEVEL="DEBUG")
    settings = load_settings()
    if settings.database_url is None and settings.kafka_bootstrap_servers is None:
        up()
    else:
        serve(RoleName.GATEWAY)
