"""One HTTP request to a receiver outside, and what its answer means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx2

from budget_bus import __version__
from budget_bus.notifiers.attempts import Refused, TryAgain, judge

ATTEMPT_S = 10.0  # from the connection to the head of the answer


@asynccontextmanager
async def http_client() -> AsyncIterator[httpx2.AsyncClient]:
    """The client of all channels; it goes through the proxy that the environment names, and follows no redirects."""
    for name in ("httpx2", "httpcore2"):
        # They log the addresses of requests, and whoever knows a Slack webhook's address may write to its channel.
        logging.getLogger(name).setLevel(logging.WARNING)
    agent = {"User-Agent": f"budget_bus/{__version__}"}
    async with httpx2.AsyncClient(headers=agent, follow_redirects=False, timeout=ATTEMPT_S) as client:
        yield client


async def post(client: httpx2.AsyncClient, url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """
    Post JSON once. Nothing of the answer is read but its head, so a receiver cannot fill our memory.

    Raises:
        TryAgain, Refused: it was not taken; their text has nothing of *url* in it.
    """
    headers = {"Content-Type": "application/json", **headers}
    try:
        # The client's own timeouts are for each step, so one that drips would hold us for ever.
        async with (
            asyncio.timeout(ATTEMPT_S),
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            judge(response.status_code, response.headers.get("retry-after"), datetime.now(UTC))
    except TimeoutError:
        raise TryAgain(f"no answer within {ATTEMPT_S:g} s") from None
    except httpx2.TransportError as error:
        raise TryAgain(f"no answer: {type(error).__name__}") from None
    except httpx2.InvalidURL as error:
        raise Refused(f"its address cannot be used: {type(error).__name__}") from None
