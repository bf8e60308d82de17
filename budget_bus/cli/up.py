"""`budget up`: the whole service on this machine, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.


def up() -> None:
    """
    Start database, broker, gateway and workers on this machine, and stop them on Ctrl-C.

    Example: BUDGET_PORT=8014 budget up
    """
    from budget_bus.local.stack import run
    from budget_bus.settings import load_settings

    asyncio.run(run(load_settings(), _say))


def _say(line: str) -> None:
    # The service goes on when nobody reads its messages any more.
    with contextlib.suppress(OSError):
        print(line, flush=True)
