"""Apache Kafka as one node in KRaft mode. What it has acknowledged survives kill -9; fsync is left to the system."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from budget_bus.errors import BudgetUnavailable
from budget_bus.local.child import Command
from budget_bus.local.jars import Java
from budget_bus.local.ports import remembered_port
from budget_bus.local.probe import broker_answers

_JVM = ("-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true", "-Dfile.encoding=UTF-8")
_LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)
_PROPERTIES = """\
# Written at every start of `budget up`.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={log_dir}
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# After kill -9 the controller refuses the new broker until the old one's session is over; the default is 9 s.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
message.max.bytes=8388608
replica.fetch.max.bytes=8388608
log.cleaner.dedupe.buffer.size=16777216
"""


@dataclass(frozen=True, slots=True)
class ApacheKafka:
    """One broker whose log is in *directory*; *jars* is a directory of jars."""

    directory: Path
    jars: Path
    java: Java
    port: int
    controller_port: int
    heap_mb: int = 512
    name: str = "kafka"
    kind: str = "apache"

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def prepare(self) -> None:
        """Write the properties, and format the storage when that was never done to its end."""
        self.directory.mkdir(parents=True, exist_ok=True)
        log_dir = self.directory / "log"
        self._properties.write_text(
            _PROPERTIES.format(port=self.port, controller_port=self.controller_port, log_dir=log_dir)
        )
        formatted = self.directory / "formatted"
        if not formatted.exists():
            await asyncio.to_thread(self._format)
            formatted.touch()

    def command(self) -> Command:
        return Command(
            (
                str(self.java.path),
                f"-Xmx{self.heap_mb}m",
                *_JVM,
                *_LOGGING,
                *("-cp", f"{self.jars}/*", "kafka.Kafka", str(self._properties)),
            ),
            cwd=self.directory,
        )

    async def ready(self) -> None:
        await broker_answers(self.bootstrap_servers)

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    def _format(self) -> None:
        jvm = [f"{self.java.path}", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", _LOGGING[0]]
        tool = ["-cp", f"{self.jars}/*", "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        result = subprocess.run(
            [*jvm, *tool, "--cluster-id", self._cluster_id(), "--config", f"{self._properties}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
        )
        if result.returncode != 0:
            lines = (result.stderr + result.stdout).strip().splitlines()
            raise BudgetUnavailable(f"cannot format Kafka's storage in {self.directory}: {lines[-1] if lines else ''}")

    def _cluster_id(self) -> str:
        file = self.directory / "cluster-id"
        if not file.exists():
            # Kafka's ids are 16 bytes in URL-safe base64 without padding; a leading dash would look like an option.
            file.write_text(base64.urlsafe_b64encode(b"\x00" + uuid.uuid4().bytes[1:]).decode().rstrip("=") + "\n")
        return file.read_text().strip()


def open_apache(data_dir: Path, jars: Path, java: Java) -> ApacheKafka:
    """The broker of *data_dir*, on the ports it had before when they are still free. Starts nothing."""
    directory = data_dir.absolute() / "kafka"
    port = remembered_port(directory / "port")
    return ApacheKafka(directory, jars, java, port, remembered_port(directory / "controller.port", avoid={port}))
