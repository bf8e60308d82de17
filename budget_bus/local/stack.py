"""`budget up` from the lock to ready and back: database, broker, schema, topics, roles, then wait for Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import httpx2

from budget_bus.errors import BudgetUnavailable
from budget_bus.http.server import check_exposure
from budget_bus.local import state
from budget_bus.local.apache import ApacheKafka
from budget_bus.local.child import last_lines
from budget_bus.local.jars import KAFKA_VERSION
from budget_bus.local.kafka import Broker, Configured, resolve
from budget_bus.local.ports import free_port, is_free
from budget_bus.local.postgres import open_postgres
from budget_bus.local.roles import START_ORDER, names, roles
from budget_bus.local.supervisor import Supervisor, cancelled_by
from budget_bus.producers.topics import apply_topics
from budget_bus.settings import Settings
from budget_bus.specialist.server import LOOPBACK
from budget_bus.store.migrate import migrate

Say = Callable[[str], None]
_READY_PATIENCE_S = 60
_LOG_LIMIT_BYTES = 10_000_000


@dataclass(slots=True)
class _Stop:
    """Set by the first and by the second SIGINT, SIGTERM or SIGHUP."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    insisted: asyncio.Event = field(default_factory=asyncio.Event)

    def listen(self, say: Say) -> None:
        def heard() -> None:
            if self.asked.is_set():
                self.insisted.set()
            else:
                self.asked.set()
                say("stopping (again to stop at once)")

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, heard)


async def run(settings: Settings, say: Say, *, environ: Mapping[str, str] | None = None) -> None:
    """
    Start the stack, say `ready: <url>`, and keep it running until SIGINT, SIGTERM or SIGHUP; a second one kills.

    Raises:
        BudgetUnavailable: something did not start, or the data directory or the port is taken.
        ConfigError: a setting is wrong. In either case nothing is left running.
    """
    environ = os.environ if environ is None else environ
    stop = _Stop()
    stop.listen(say)
    data_dir = settings.data_dir.absolute()
    with state.locked(data_dir):
        check_exposure(settings)
        _check_port(settings.host, settings.port, "BUDGET_PORT")
        settings = _with_ai_port(settings, say)
        supervisor = Supervisor(data_dir / "logs", say)
        _rotate(supervisor.logs)
        try:
            await cancelled_by(stop.asked, asyncio.create_task(_serve(settings, environ, supervisor, say)))
        finally:
            state.remove(data_dir)
            await cancelled_by(stop.insisted, asyncio.create_task(supervisor.stop(set(START_ORDER))))
        say("stopped")


async def _serve(settings: Settings, environ: Mapping[str, str], supervisor: Supervisor, say: Say) -> None:
    data_dir = settings.data_dir.absolute()
    say(f"starting; data in {data_dir}")
    database_url, database_line = await _database(settings, data_dir, supervisor, say)
    broker, broker_line = await _broker(settings, data_dir, environ, supervisor, say)
    backing = {"kafka_bootstrap_servers": broker.bootstrap_servers, "kafka_kind": broker.kind}
    if not isinstance(broker, Configured):
        backing["kafka_security_protocol"] = "PLAINTEXT"
    migrated = await migrate(database_url)
    say(f"database schema: {f'applied {len(migrated)} migrations' if migrated else 'up to date'}")
    await apply_topics(settings.model_copy(update=backing))
    wanted = names(notifies=settings.notifies)
    metrics_ports = _metrics_ports(wanted)
    role_env = _role_env(settings, {**backing, "database_url": database_url})
    for role in roles(wanted, {**environ, **role_env}, metrics_ports):
        await supervisor.add(role)
    say(f"started {', '.join(wanted)}; logs in {supervisor.logs}")
    url = _url(settings.host, settings.port)
    await _until_ready(url, supervisor)
    state.write(data_dir, _running(settings, url, database_url, broker, metrics_ports))
    questions = f"budget ask: {LOOPBACK}:{settings.ai_port} (the budget specialist)"
    for line in (f"API:      {url}/api", questions, broker_line, database_line):
        say(line)
    say(f"ready: {url}")
    await asyncio.Event().wait()


async def _database(settings: Settings, data_dir: Path, supervisor: Supervisor, say: Say) -> tuple[str, str]:
    if settings.database_url:
        return settings.database_url.get_secret_value(), "database: as configured by BUDGET_DATABASE_URL"
    started = monotonic()
    postgres = open_postgres(data_dir)
    fresh = not postgres.where.path.exists()
    await supervisor.add(postgres)
    made = "made and started" if fresh else "started"
    say(f"PostgreSQL {postgres.version()} {made} in {monotonic() - started:.1f} s; its files: {postgres.where.path}")
    shown = postgres.url.replace(postgres.password, "***")
    return postgres.url, f"database: {shown} (password in {data_dir / 'postgres.password'})"


async def _broker(
    settings: Settings, data_dir: Path, environ: Mapping[str, str], supervisor: Supervisor, say: Say
) -> tuple[Broker, str]:
    broker = await resolve(data_dir, configured=settings.kafka_bootstrap_servers, environ=environ, say=say)
    if isinstance(broker, Configured):
        return broker, f"broker:   {broker.bootstrap_servers} (as configured)"
    started = monotonic()
    await supervisor.add(broker)
    # KAFKA_HOME may hold any version; only that of our own cache is known.
    ours = isinstance(broker, ApacheKafka) and broker.jars.name == f"kafka-{KAFKA_VERSION}"
    version = f" {KAFKA_VERSION}" if ours else ""
    name = f"Apache Kafka{version}" if isinstance(broker, ApacheKafka) else "trial broker, not crash-durable"
    say(f"{name} started in {monotonic() - started:.1f} s; its files: {broker.directory}")
    return broker, f"broker:   {broker.bootstrap_servers} ({name})"


def _role_env(settings: Settings, backing: Mapping[str, str]) -> dict[str, str]:
    return {
        **{f"BUDGET_{name.upper()}": value for name, value in backing.items()},
        "BUDGET_DATA_DIR": str(settings.data_dir.absolute()),
        "BUDGET_HOST": settings.host,
        "BUDGET_PORT": str(settings.port),
        "BUDGET_AI_PORT": str(settings.ai_port),
        "PYTHONUNBUFFERED": "1",
    }


def _metrics_ports(wanted: Sequence[str]) -> dict[str, int]:
    ports: dict[str, int] = {}
    for name in wanted:
        if name != "gateway":
            ports[name] = free_port(avoid=ports.values())
    return ports


async def _until_ready(url: str, supervisor: Supervisor) -> None:
    answer = "it does not answer"
    try:
        async with asyncio.timeout(_READY_PATIENCE_S), httpx2.AsyncClient(trust_env=False, timeout=5) as client:
            while True:
                try:
                    response = await client.get(f"{url}/health/ready")
                    if response.status_code == 200:
                        return
                    answer = f"{response.status_code} {response.text.strip()[:500]}"
                except httpx2.HTTPError as error:
                    answer = f"it does not answer: {error}"
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise BudgetUnavailable(_diagnosis(url, answer, supervisor)) from None


def _diagnosis(url: str, answer: str, supervisor: Supervisor) -> str:
    lines = [f"not ready after {_READY_PATIENCE_S} s. {url}/health/ready: {answer}"]
    for name, failures in (supervisor.failing() or {"gateway": 0}).items():
        log = supervisor.log_of(name)
        lines.append(f"{name}: died {failures} times; the end of {log}:" if failures else f"the end of {log}:")
        lines += [f"    {line}" for line in last_lines(log, 5)]
    return "\n".join(lines)


def _running(
    settings: Settings, url: str, database_url: str, broker: Broker, metrics_ports: dict[str, int]
) -> state.RunningStack:
    return state.RunningStack(
        pid=os.getpid(),
        started=state.process_started(os.getpid()) or "unknown",
        url=url,
        bootstrap_servers=broker.bootstrap_servers,
        kafka_kind=broker.kind,
        database_url=database_url,
        metrics_ports=metrics_ports,
        ai_port=settings.ai_port,
    )


def _with_ai_port(settings: Settings, say: Say) -> Settings:
    """A port that was asked for must be had; the default is as good as another, for stacks that run side by side."""
    if "ai_port" in settings.model_fields_set:
        _check_port(LOOPBACK, settings.ai_port, "BUDGET_AI_PORT")
        return settings
    port = free_port(preferred=settings.ai_port, avoid=[settings.port])
    if port != settings.ai_port:
        say(f"port {settings.ai_port} is in use: the specialist listens on {port} (BUDGET_AI_PORT sets its port)")
    return settings.model_copy(update={"ai_port": port})


def _check_port(host: str, port: int, variable: str) -> None:
    try:
        free = is_free(port, host)
    except UnicodeError:
        free = False
    if not free:
        raise BudgetUnavailable(f"port {port} of {host} is in use by another program; set {variable} to a free port")


def _url(host: str, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - shown, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _rotate(logs: Path) -> None:
    for log in logs.glob("*.log"):
        if log.stat().st_size > _LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".log.1"))
