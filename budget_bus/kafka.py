"""How every Kafka client of ours connects; the one place that knows the security settings."""

from __future__ import annotations

import ssl
from typing import Any

from budget_bus.errors import ConfigError
from budget_bus.settings import Settings


def connection(settings: Settings) -> dict[str, Any]:
    """
    The connection arguments of an aiokafka client.

    Raises:
        ConfigError: no bootstrap servers are configured.
    """
    if not settings.kafka_bootstrap_servers:
        raise ConfigError("BUDGET_KAFKA_BOOTSTRAP_SERVERS is not set; `budget up` starts a broker and sets it")
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "client_id": f"budget_bus.{settings.instance or 'cli'}",
    }
    if "SSL" in settings.kafka_security_protocol:
        cafile = str(settings.kafka_ssl_cafile) if settings.kafka_ssl_cafile else None
        arguments["ssl_context"] = ssl.create_default_context(cafile=cafile)
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": password.get_secret_value() if password else "",
        }
    return arguments
