"""The broker for trying things out: speaks Kafka, needs no Java, and is not crash-durable."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from budget_bus.errors import ConfigError
from budget_bus.local.child import Command
from budget_bus.local.ports import remembered_port
from budget_bus.local.probe import broker_answers

WARNING = (
    "the trial broker is NOT crash-durable: events that it acknowledged just before a crash can be lost; "
    "install Java 17 or newer and Maven to get Apache Kafka"
)


@dataclass(frozen=True, slots=True)
class TrialBroker:
    """noida-db keeps its log in memory and writes it to *directory* from time to time and when it is stopped."""

    directory: Path
    program: Path
    port: int
    name: str = "kafka"
    kind: str = "trial"

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)

    def command(self) -> Command:
        address = ("--host", "127.0.0.1", "--kafka-port", str(self.port))
        return Command(
            (str(self.program), "start", "--data-dir", str(self.directory / "data"), "--only", "kafka", *address),
            cwd=self.directory,
        )

    async def ready(self) -> None:
        await broker_answers(self.bootstrap_servers)


def open_trial(data_dir: Path) -> TrialBroker:
    """
    The trial broker of *data_dir*. Starts nothing.

    Raises:
        ConfigError: its wheel is not installed, or has no program for this platform.
    """
    advice = "set BUDGET_KAFKA_BOOTSTRAP_SERVERS, or install Java 17 or newer and Maven for Apache Kafka"
    try:
        program = Path(str(metadata.distribution("noida-db").locate_file("noida_db/noida-db")))
    except metadata.PackageNotFoundError:
        raise ConfigError(f"there is no broker: the package noida-db is not installed; {advice}") from None
    if not os.access(program, os.X_OK):
        raise ConfigError(f"there is no broker: {program} cannot be run here; {advice}")
    directory = data_dir.absolute() / "trial-broker"
    return TrialBroker(directory, program, remembered_port(directory / "port"))
