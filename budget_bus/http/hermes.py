"""Registration with Hermes, the platform's registry: who finds us there finds the gateway."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import httpx2
import structlog

from budget_bus import __version__
from budget_bus.settings import Settings

log = structlog.get_logger()

NAME = "budget"
HEARTBEAT_S = 30.0
_TIMEOUT_S = 10.0
_CAPABILITIES = ("check_budget", "record_usage", "usage_reports", "budget_limits", "budget_alerts", "mcp")
_CALLED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where it listens is not where it is called


class _Unregistered(Exception):
    """Hermes does not know us, or did not answer as it should."""


async def keep_registered(settings: Settings, stopping: asyncio.Event, *, every_s: float = HEARTBEAT_S) -> None:
    """
    Register, then send a heartbeat every *every_s* seconds until *stopping*.

    Nothing here needs Hermes: while it is away or refuses, that is said once, and tried again with each heartbeat.
    """
    if settings.hermes_url is None:
        return
    identity: tuple[str, str] | None = None
    complaint = ""
    base_url = settings.hermes_url.get_secret_value()
    async with httpx2.AsyncClient(base_url=base_url, timeout=_TIMEOUT_S, trust_env=False) as client:
        while not stopping.is_set():
            try:
                if identity is None:
                    identity = await _register(client, settings)
                    log.info("registered with Hermes", component_id=identity[0])
                else:
                    await _beat(client, *identity)
                complaint = ""
            except (httpx2.HTTPError, httpx2.InvalidURL, _Unregistered) as error:
                identity = None
                reason = str(error) or type(error).__name__
                if reason != complaint:
                    log.warning("not registered with Hermes; everything else goes on", reason=reason)
                complaint = reason
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), every_s)


async def _register(client: httpx2.AsyncClient, settings: Settings) -> tuple[str, str]:
    host = _CALLED.get(settings.host, settings.host)
    wish = {
        "name": NAME,
        "version": __version__,
        "type": NAME,
        "endpoint": f"http://{f'[{host}]' if ':' in host else host}:{settings.port}",
        "capabilities": list(_CAPABILITIES),
        "metadata": {},
    }
    said = await _post(client, "/api/register", wish, {})
    component_id, token = said.get("componentId"), said.get("token")
    if said.get("success") is not True or not isinstance(component_id, str) or not isinstance(token, str):
        raise _Unregistered("its answer has no componentId and token")
    return component_id, token


async def _beat(client: httpx2.AsyncClient, component_id: str, token: str) -> None:
    await _post(client, "/api/heartbeat", {"component_id": component_id}, {"X-Authentication-Token": token})


async def _post(client: httpx2.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    response = await client.post(path, json=body, headers=headers)
    if response.status_code >= 400:
        raise _Unregistered(f"{path} answers {response.status_code}")
    try:
        said = response.json()
    except ValueError:
        said = {}
    return said if isinstance(said, dict) else {}
