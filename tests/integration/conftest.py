"""
Real PostgreSQL and a real broker, through the same resolver as `budget up`.

postgres_url    a server for the session         database_url  a migrated database of its own for each test
postgres15_url  the oldest supported server      pool          on database_url
kafka           bootstrap servers, session       topic_prefix  keeps one test's topics apart from another's
settings        all of these in one Settings    apache_kafka  kafka, unless it is the trial broker
client          of a gateway within the test    clock         what that gateway takes for now

BUDGET_TEST_KAFKA_BOOTSTRAP_SERVERS reuses a broker that runs already. With CI or BUDGET_REQUIRE_KAFKA set, a missing
service fails.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import secrets
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from budget_bus.consumers.batch import utc_now
from budget_bus.errors import ConfigError
from budget_bus.local import jars
from budget_bus.local.child import start
from budget_bus.local.kafka import REQUIRE, ApacheJars, Configured, Download, plan, resolve
from budget_bus.local.postgres import Postgres, open_postgres
from budget_bus.local.probe import broker_answers
from budget_bus.producers.topics import apply_topics
from budget_bus.settings import Settings, load_settings
from budget_bus.store.migrate import migrate
from budget_bus.store.pool import open_pool
from tests.integration.http_client import client_of

_REUSE = "BUDGET_TEST_KAFKA_BOOTSTRAP_SERVERS"
_TEMPLATE = "budget_template"
_OLDEST_POSTGRES = Path("/usr/lib/postgresql/15/bin")
_KAFKA_IMAGE = f"apache/kafka:{jars.KAFKA_VERSION}"


def pytest_report_header() -> list[str]:
    """Say once which services the tests run on."""
    if os.environ.get(_REUSE):
        broker = f"the one at {os.environ[_REUSE]} ({_REUSE})"
    elif _docker_answers():
        broker = f"{_KAFKA_IMAGE} in Docker"
    else:
        try:
            found = plan(os.environ)
        except ConfigError as error:
            found = str(error)
        match found:
            case ApacheJars():
                broker = f"Apache Kafka from {found.jars}"
            case Download():
                broker = f"Apache Kafka {jars.KAFKA_VERSION}, to be downloaded to {found.target}"
            case _:
                broker = f"the trial broker, as {found}"
    with database_root() as root:
        version = open_postgres(root).version()
    return [f"broker: {broker}", f"database: PostgreSQL {version} (embedded)"]


@contextmanager
def database_root() -> Iterator[Path]:
    """A temporary directory that PostgreSQL's own account can enter when the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="budget-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
async def postgres_url() -> AsyncIterator[str]:
    with database_root() as root:
        async for url in _serving(open_postgres(root, durable=False), root):
            yield url


@pytest.fixture(scope="session")
async def postgres15_url() -> AsyncIterator[str]:
    if not (_OLDEST_POSTGRES / "postgres").exists():
        _missing(f"PostgreSQL 15 is not in {_OLDEST_POSTGRES} (Debian: postgresql-15)")
    with database_root() as root:
        async for url in _serving(open_postgres(root, bin_dir=_OLDEST_POSTGRES, durable=False), root):
            yield url


@pytest.fixture(scope="session")
async def _migrated_template(postgres_url: str) -> str:
    await _execute(postgres_url, f'CREATE DATABASE "{_TEMPLATE}"')
    await migrate(_database_of(postgres_url, _TEMPLATE))
    return _TEMPLATE


@pytest.fixture
async def database_url(postgres_url: str, _migrated_template: str) -> AsyncIterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    await _execute(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE "{_migrated_template}"')
    yield _database_of(postgres_url, name)
    await _execute(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(settings, size=8) as opened:
        yield opened


@pytest.fixture(scope="session")
async def kafka() -> AsyncIterator[str]:
    configured = os.environ.get(_REUSE)
    if not configured and _docker_answers():
        with _kafka_in_docker() as servers:
            await asyncio.wait_for(broker_answers(servers), 60)
            yield servers
        return
    with tempfile.TemporaryDirectory(prefix="budget-test-", ignore_cleanup_errors=True) as name:
        environ = {REQUIRE: "1" if os.environ.get("CI") else "", **os.environ}
        broker = await resolve(Path(name), configured=configured, environ=environ, say=print)
        if isinstance(broker, Configured):
            await asyncio.wait_for(broker_answers(broker.bootstrap_servers), 30)
            yield broker.bootstrap_servers
            return
        child = await start(broker, Path(name, "kafka.log"))
        yield broker.bootstrap_servers
        await child.stop(10)


@pytest.fixture(scope="session")
def apache_kafka(kafka: str) -> str:
    """As `kafka`, for what the trial broker does differently: its groups refuse a commit that Apache Kafka takes."""
    ours = not os.environ.get(_REUSE) and not _docker_answers()
    if ours and isinstance(reason := plan(os.environ), str):
        _missing(f"no Apache Kafka on this machine: {reason}")
    return kafka


@pytest.fixture
def topic_prefix() -> str:
    return f"t{secrets.token_hex(4)}."


@pytest.fixture
async def _topics(kafka: str, topic_prefix: str) -> AsyncIterator[None]:
    """Takes the topics of a test away: a broker with those of a thousand tests takes seconds to make one more."""
    yield
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(topic_prefix)])
    finally:
        await admin.close()


@pytest.fixture
def settings(request: pytest.FixtureRequest, database_url: str, topic_prefix: str, tmp_path: Path) -> Settings:
    """Settings of one test. The broker is started only for tests that ask for `kafka` as well."""
    values: dict[str, Any] = {"database_url": database_url, "topic_prefix": topic_prefix, "data_dir": tmp_path}
    if "kafka" in request.fixturenames:
        values["kafka_bootstrap_servers"] = request.getfixturevalue("kafka")
        request.getfixturevalue("_topics")
    return load_settings({}, env_file=Path(os.devnull), **values)


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """What `client`'s gateway takes for now; a module that turns its time has a fixture of this name."""
    return utc_now


@pytest.fixture
async def client(kafka: str, settings: Settings, clock: Callable[[], datetime]) -> AsyncIterator[httpx2.AsyncClient]:
    await apply_topics(settings)
    async with client_of(settings, now=clock) as client:
        yield client


async def _serving(postgres: Postgres, root: Path) -> AsyncIterator[str]:
    child = await start(postgres, root / "postgresql.log")
    yield postgres.url
    await child.stop(10)


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _database_of(url: str, name: str) -> str:
    return f"{url.rsplit('/', 1)[0]}/{name}"


def _missing(reason: str) -> None:
    if os.environ.get("CI") or os.environ.get(REQUIRE):
        pytest.fail(reason)
    pytest.skip(reason)


@functools.cache
def _docker_answers() -> bool:
    import docker
    from docker.errors import DockerException

    with warnings.catch_warnings():
        # The client of a Docker that is not there leaves its socket to the garbage collector, which complains.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            client = docker.from_env(timeout=2)
            answers = bool(client.ping())
            client.close()
        except (DockerException, OSError):
            answers = False
        gc.collect()
    return answers


@contextmanager
def _kafka_in_docker() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer

    from budget_bus.local.ports import free_port

    port = free_port()
    # The advertised address must be the one outside of the container, so the host's port is chosen beforehand.
    environment = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_MESSAGE_MAX_BYTES": "8388608",
    }
    container = DockerContainer(_KAFKA_IMAGE).with_envs(**environment).with_bind_ports(9092, port)
    with container:
        yield f"127.0.0.1:{port}"
