"""`budget mcp`: the tools for agents over standard input and output, for clients that start their servers."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from budget_bus.cli.find import find_service

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

_PATIENCE_S = 60.0


def mcp() -> None:
    """
    Serve the tools for agents on standard input and output (Model Context Protocol) until the input ends.

    Over HTTP they are at /mcp/ of the gateway. BUDGET_API_KEY is sent if it is set.

    Example: budget mcp
    """
    # Nothing but the protocol may be on standard output.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    asyncio.run(_serve())


async def _serve() -> None:
    import httpx2

    from budget_bus.mcp.server import build_server

    settings = find_service()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    key = os.environ.get("BUDGET_API_KEY", "").strip()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # Proxies of the environment are for the web, not for the service beside us.
    async with httpx2.AsyncClient(
        base_url=f"http://{host}:{settings.port}", headers=headers, timeout=_PATIENCE_S, trust_env=False
    ) as client:
        await build_server(client).run_stdio_async()
