"""Where the commands find the service: the settings, else a `budget up` that runs in BUDGET_DATA_DIR."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from budget_bus.errors import ConfigError

if TYPE_CHECKING:
    from budget_bus.settings import Settings

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.


def find_service(*, database: bool = False, kafka: bool = False) -> Settings:
    """
    The settings, completed with what a running `budget up` of this directory tells of itself.

    What is set counts; `budget up` fills in only what is not. Host and port are always given: by the settings, the
    running stack, or their defaults.

    Raises:
        ConfigError: a setting is wrong, or the *database* or *kafka* that the command needs is neither set nor run.
    """
    from pydantic import SecretStr

    from budget_bus.local.state import running
    from budget_bus.settings import load_settings

    settings = load_settings()
    stack = running(settings.data_dir)
    found: dict[str, object] = {}
    if stack is not None:
        host, port = _address(stack.url)
        if not settings.model_fields_set & {"host", "port"}:
            found |= {"host": host, "port": port}
        if "ai_port" not in settings.model_fields_set:
            found["ai_port"] = stack.ai_port
        if settings.database_url is None:
            found["database_url"] = SecretStr(stack.database_url)
        if settings.kafka_bootstrap_servers is None:
            found |= {"kafka_bootstrap_servers": stack.bootstrap_servers, "kafka_security_protocol": "PLAINTEXT"}
    settings = settings.model_copy(update=found)
    if kafka and not settings.debug:
        # What aiokafka says of each of its attempts, our error says once.
        logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    missing = []
    if database and settings.database_url is None:
        missing.append("BUDGET_DATABASE_URL")
    if kafka and settings.kafka_bootstrap_servers is None:
        missing.append("BUDGET_KAFKA_BOOTSTRAP_SERVERS")
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigError(
            f"{' and '.join(missing)} {verb} not set, and no `budget up` is ready in {settings.data_dir.absolute()}; "
            "start one there, set BUDGET_DATA_DIR to the directory of one that runs, or set what is missing"
        )
    return settings


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return host.strip("[]"), int(port)
