"""The specialist put together: its way to the gateway, its language model, its server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import httpx2

from budget_bus.mcp.rest import Rest
from budget_bus.settings import Settings
from budget_bus.specialist.desk import Desk
from budget_bus.specialist.llm import Llm
from budget_bus.specialist.server import Patience, Server

_GATEWAY_S: Final = 20.0
_MODEL_S: Final = 120.0
_CALLED: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - where it listens is not where it is called


@asynccontextmanager
async def open_specialist(settings: Settings, *, patience: Patience | None = None) -> AsyncIterator[Desk]:
    """
    The specialist, listening from entering to leaving. It needs neither database nor broker: a gateway that is away is
    what its answers say.

    Raises:
        ConfigError: the port cannot be had.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_gateway(settings))
        llm = await stack.enter_async_context(_language_model(settings, client))
        desk = Desk(client, settings.timezone, llm)
        server = Server(desk.answer, patience or Patience())
        desk.clients = lambda: server.clients
        desk.port = await stack.enter_async_context(server.listening(settings.ai_port))
        yield desk


def _gateway(settings: Settings) -> httpx2.AsyncClient:
    host = _CALLED.get(settings.host, settings.host)
    key = settings.api_key.get_secret_value() if settings.api_key else None
    # Proxies of the environment are for the web, not for the service beside us.
    return httpx2.AsyncClient(
        base_url=f"http://{f'[{host}]' if ':' in host else host}:{settings.port}",
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=_GATEWAY_S,
        trust_env=False,
    )


@asynccontextmanager
async def _language_model(settings: Settings, gateway: httpx2.AsyncClient) -> AsyncIterator[Llm | None]:
    if settings.ai_model is None or settings.ai_base_url is None or settings.ai_provider is None:
        yield None
        return
    key = settings.ai_api_key.get_secret_value() if settings.ai_api_key else None
    url = settings.ai_base_url.get_secret_value().rstrip("/") + "/"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=_MODEL_S) as client:
        yield Llm(client, Rest(gateway), settings.ai_provider, settings.ai_model)
