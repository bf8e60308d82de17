"""Numbered migrations, applied once, in order, under an advisory lock, with checksums."""

from __future__ import annotations

import hashlib
from importlib import resources

import asyncpg

from budget_bus.errors import BudgetUnavailable, ConfigError

_LOCK = 0x6275646701  # any constant of our own: "budg" and a number
MINIMUM_POSTGRES = 150000

_REGISTRY = """
CREATE TABLE IF NOT EXISTS migration (
    name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


def migrations() -> dict[str, str]:
    """File name -> SQL, in the order they are applied."""
    folder = resources.files("budget_bus.store") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return {f.name: f.read_text(encoding="utf-8") for f in files}


async def migrate(database_url: str) -> list[str]:
    """
    Bring the database to this release's schema; safe to run from any number of processes at once.

    Returns:
        The names of the migrations that this call applied.

    Raises:
        ConfigError: an applied migration was changed since, or the server is older than PostgreSQL 15.
        BudgetUnavailable: the database does not answer.
    """
    try:
        connection = await asyncpg.connect(database_url, timeout=15)
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        raise BudgetUnavailable(f"the database does not answer: {error}") from None
    try:
        return await _apply(connection, migrations())
    finally:
        await connection.close()


async def _apply(connection: asyncpg.Connection, files: dict[str, str]) -> list[str]:
    version = int(await connection.fetchval("SELECT current_setting('server_version_num')"))
    if version < MINIMUM_POSTGRES:
        raise ConfigError(f"PostgreSQL 15 or newer is needed; this server is {version // 10000}")
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    await connection.execute(_REGISTRY)
    applied = {row["name"]: row["sha256"] for row in await connection.fetch("SELECT name, sha256 FROM migration")}
    done = []
    for name, sql in files.items():
        digest = hashlib.sha256(sql.encode()).hexdigest()
        if name not in applied:
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute("INSERT INTO migration (name, sha256) VALUES ($1, $2)", name, digest)
            done.append(name)
        elif applied[name] != digest:
            raise ConfigError(f"migration {name} was changed after it had been applied; add a new one instead")
    return done
