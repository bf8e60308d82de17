"""Where the gateway refuses to listen."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from budget_bus.errors import ConfigError
from budget_bus.http.server import check_exposure, gateway
from budget_bus.keys.file import add_key, make_key
from budget_bus.keys.key import KeyRole, new_key
from budget_bus.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_may_run_open(host: str) -> None:
    check_exposure(Settings.model_construct(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "budget.example.org", ""])  # noqa: S104  # refused
def test_anywhere_else_needs_keys(host: str) -> None:
    with pytest.raises(ConfigError, match=r"BUDGET_HOST.*BUDGET_API_KEYS_FILE.*`budget keys add"):
        check_exposure(Settings.model_construct(host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "10.0.0.1"])  # noqa: S104  # not bound here
def test_with_keys_it_may_listen_anywhere(host: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    made = {"name": "ops", "roles": [KeyRole.ADMIN], "components": [], "created_at": datetime.now(UTC)}
    add_key(file, make_key(new_key(), **made))
    check_exposure(Settings.model_construct(host=host, api_keys_file=file))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "there is no keys file", id="not there"),
        pytest.param("{", "is malformed", id="malformed"),
        pytest.param('{"keys": []}', "has no keys", id="empty"),
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104  # refused
def test_keys_that_cannot_be_used_stop_the_start(host: str, content: str | None, says: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=f"{says}.*budget keys add"):
        check_exposure(Settings.model_construct(host=host, api_keys_file=file))


async def test_a_port_that_is_taken_is_said_before_anything_is_opened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings.model_construct(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match="cannot listen on"):
            async with gateway(settings):
                pytest.fail("it listens where somebody else does")
