"""Where the gateway refuses to listen."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from budget_bus.errors import ConfigError
from budget_bus.http.server import check_exposure, gateway
from budget_bus.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_may_run_open(host: str) -> None:
    check_exposure(Settings.model_construct(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "budget.example.org", ""])  # noqa: S104  # refused
def test_anywhere_else_needs_keys(host: str) -> None:
    with pytest.raises(ConfigError, match="BUDGET_HOST"):
        check_exposure(Settings.model_construct(host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104  # refused
def test_keys_that_would_not_be_checked_stop_the_start(host: str) -> None:
    with pytest.raises(ConfigError, match="cannot check API keys yet"):
        check_exposure(Settings.model_construct(host=host, api_keys_file=Path("keys.json")))


async def test_a_port_that_is_taken_is_said_before_anything_is_opened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings.model_construct(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match="cannot listen on"):
            async with gateway(settings):
                pytest.fail("it listens where somebody else does")
