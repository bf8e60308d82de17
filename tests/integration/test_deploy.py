"""The setup service of docker-compose.yml, run outside of a container on a real database and broker."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import asyncpg
import yaml
from aiokafka.admin import AIOKafkaAdminClient

from budget_bus.events.topics import TOPICS

ROOT = Path(__file__).parents[2]


async def setup(database_url: str, kafka: str, topic_prefix: str, cwd: Path) -> tuple[int, str]:
    """Run what the service runs, with the environment that it has but for the addresses."""
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["setup"]
    addresses = {
        "BUDGET_DATABASE_URL": database_url,
        "BUDGET_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "BUDGET_TOPIC_PREFIX": topic_prefix,
    }
    assert service["environment"].keys() <= addresses.keys()
    process = await asyncio.create_subprocess_exec(
        *service["entrypoint"],
        *service["command"],
        cwd=cwd,
        env={"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **addresses},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, said.decode()


async def topics_of(kafka: str, prefix: str) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        return {name.removeprefix(prefix) for name in await admin.list_topics() if name.startswith(prefix)}
    finally:
        await admin.close()


async def test_setup_makes_schema_and_topics_and_does_no_harm_when_repeated(
    postgres_url: str, kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    name = f"setup_{topic_prefix.rstrip('.')}"
    server = await asyncpg.connect(postgres_url)
    await server.execute(f'CREATE DATABASE "{name}"')
    database_url = f"{postgres_url.rsplit('/', 1)[0]}/{name}"
    try:
        for _ in range(2):
            status, said = await setup(database_url, kafka, topic_prefix, tmp_path)
            assert status == 0, said
        books = await asyncpg.connect(database_url)
        assert await books.fetchval("SELECT version FROM catalogue") == 1
        await books.close()
        assert await topics_of(kafka, topic_prefix) == {spec.name for spec in TOPICS}
    finally:
        await server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await server.close()


async def test_setup_fails_when_the_database_is_away(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    status, said = await setup("postgresql://budget:budget@127.0.0.1:1/budget", kafka, topic_prefix, tmp_path)
    assert status == 1, said
    assert "database" in said
    # A later service must not find topics of a setup that failed.
    assert await topics_of(kafka, topic_prefix) == set()
