"""Clients of a gateway that runs within the test, without a port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2

from budget_bus.http.app import build_app
from budget_bus.http.parts import Parts
from budget_bus.http.server import open_parts
from budget_bus.settings import Settings


@asynccontextmanager
async def client_of(settings: Settings, **parts: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway with these settings, of which *parts* are others than usual. The topics must be there."""
    async with open_parts(settings) as opened, client_with(replace(opened, **parts)) as client:
        yield client


@asynccontextmanager
async def client_with(parts: Parts, *, timeout_s: float = 5) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway with these parts, which stay open."""
    transport = httpx2.ASGITransport(app=build_app(parts))
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway", timeout=timeout_s) as client:
        yield client
