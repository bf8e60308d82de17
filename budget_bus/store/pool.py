"""Opens the connection pool and says which driver errors are worth another try."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from pydantic_core import to_json

from budget_bus.errors import BudgetUnavailable, ConfigError, Retryable
from budget_bus.settings import Settings

# Connection loss, shutdown and crash of the server, serialization failure, deadlock, lock and other time-outs, lack of
# resources, and a server that has become a replica.
_RETRYABLE_STATES = ("08", "57P", "57014", "40001", "40P01", "55P03", "25P03", "25006", "53")


@asynccontextmanager
async def open_pool(settings: Settings, *, size: int = 4) -> AsyncIterator[asyncpg.Pool]:
    """
    A pool of *size* connections at most, closed on exit.

    Raises:
        ConfigError: no database is configured.
        BudgetUnavailable: the database does not answer.
    """
    if settings.database_url is None:
        raise ConfigError("BUDGET_DATABASE_URL is not set; `budget up` starts a database and sets it")
    try:
        pool = await asyncpg.create_pool(
            settings.database_url.get_secret_value(),
            min_size=1,
            max_size=size,
            timeout=10,
            command_timeout=60,
            init=_prepare,
            reset=_leave,
            server_settings={
                "application_name": f"budget_bus.{settings.instance or 'cli'}",
                "idle_in_transaction_session_timeout": "10000",
                "jit": "off",
            },
        )
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        raise BudgetUnavailable(f"the database does not answer: {error}") from None
    try:
        yield pool
    finally:
        pool.terminate()


async def _prepare(connection: asyncpg.Connection) -> None:
    # COPY needs the binary format, which is a version byte and the text.
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=_write_jsonb,
        decoder=lambda raw: json.loads(raw[1:]),
        format="binary",
    )


def _write_jsonb(value: Any) -> bytes:
    return b"\x01" + to_json(value)


async def _leave(_connection: asyncpg.Connection) -> None:
    """Nothing to reset: our transactions leave no session state, and the usual reset costs a round trip per batch."""


def retryable(error: BaseException) -> bool:
    """Whether *error* means that nothing was written, or that only asking the database again can tell."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate or "").startswith(_RETRYABLE_STATES)
    return isinstance(error, (Retryable, OSError, asyncpg.InterfaceError, TimeoutError))
