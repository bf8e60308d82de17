"""Runs the gateway: opens what it needs, serves until told to stop, answers what it accepted, closes."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from budget_bus.errors import ConfigError
from budget_bus.http.admission import Keys
from budget_bus.http.app import agents_of, build_app
from budget_bus.http.hermes import keep_registered
from budget_bus.http.key_audit import keep_auditing
from budget_bus.http.lag import LogEnds
from budget_bus.http.pace import Pace
from budget_bus.http.parts import Parts
from budget_bus.http.protocol import PatientProtocol
from budget_bus.producers.bus import BudgetBus
from budget_bus.settings import Settings
from budget_bus.store.pool import open_pool

_POOL_SIZE = 8
STUCK_MS = 20_000  # how long a peer may leave unread what was sent
_WS_MAX_BYTES = 4096  # what clients of feeds send is ignored
_WS_PING_S = 20.0
_FAREWELL_S = 15  # longer than any request takes: a check waits for 2 s, ?wait=true for 10 + 5


async def serve(settings: Settings) -> None:
    """
    Run the gateway until SIGTERM or SIGINT.

    Raises:
        ConfigError: it must not or cannot listen there, or a setting is missing.
        BudgetUnavailable: the database or the broker does not answer, or the topics are not there.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with gateway(settings):
        await stopping.wait()


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncIterator[Starlette]:
    """
    The gateway, listening from entering to leaving; on leaving it answers the requests that it has accepted.

    Raises:
        As `serve`; nothing listens then.
    """
    check_exposure(settings)
    with _listening(settings.host, settings.port) as listener:
        async with open_parts(settings) as parts, agents_of(app := build_app(parts)).running():
            server = _Server(
                uvicorn.Config(
                    app,
                    http=PatientProtocol,
                    log_config=None,
                    lifespan="off",
                    access_log=False,
                    timeout_graceful_shutdown=_FAREWELL_S,
                    ws_max_size=_WS_MAX_BYTES,
                    ws_ping_interval=_WS_PING_S,
                    ws_ping_timeout=_WS_PING_S,
                    # Compressing takes some 50 KiB for each client, and the same work again for each.
                    ws_per_message_deflate=False,
                )
            )
            stopping = asyncio.Event()
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            beside = (keep_auditing(parts, stopping), keep_registered(settings, stopping))
            working = [asyncio.create_task(work) for work in beside]
            try:
                yield app
            finally:
                server.should_exit = True
                stopping.set()
                await serving
                await asyncio.gather(*working)


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """
    What the app needs, opened; closed in reverse.

    Raises:
        ConfigError, BudgetUnavailable: as `serve`.
    """
    async with open_pool(settings, size=_POOL_SIZE) as pool, BudgetBus.from_settings(settings) as bus:
        await bus.listen()
        keys, log_ends = Keys(settings.api_keys_file), LogEnds(settings)
        try:
            yield Parts(settings, pool, bus, log_ends, keys, Pace(settings.rate_limit_per_s))
        finally:
            await log_ends.close()


def check_exposure(settings: Settings) -> None:
    """
    Never open to others by accident.

    Raises:
        ConfigError: the host is not loopback and there is no keys file, or the keys file cannot be used.
    """
    if settings.api_keys_file is None and not _is_loopback(settings.host):
        raise ConfigError(
            f"BUDGET_HOST={settings.host} is reachable by others, so the gateway needs keys there: set "
            "BUDGET_API_KEYS_FILE and make a key with `budget keys add NAME --role ROLE`, or listen on 127.0.0.1"
        )
    Keys(settings.api_keys_file)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    # Not left to uvicorn, which ends the process when the port is taken.
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port} (BUDGET_HOST, BUDGET_PORT): {error.strerror}") from None
    with listener:
        # Inherited by every connection: one whose peer takes nothing is ended by the kernel (Linux only). uvicorn would
        # wait for ever until what it has buffered is sent.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_MS)
        yield listener


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: it would raise the signal again, before our parts are closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
