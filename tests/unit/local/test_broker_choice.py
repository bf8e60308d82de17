"""Which broker is chosen, on machines made of a few tiny programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from budget_bus.errors import ConfigError
from budget_bus.local.apache import ApacheKafka
from budget_bus.local.jars import KAFKA_VERSION
from budget_bus.local.kafka import Configured, resolve
from budget_bus.local.trial import TrialBroker

_MAVEN_WORKS = """\
for word in "$@"; do case "$word" in -DoutputDirectory=*) out="${word#*=}";; esac; done
/bin/mkdir -p "$out" && : > "$out/kafka_2.13-VERSION.jar"
""".replace("VERSION", KAFKA_VERSION)
_MAVEN_FAILS = 'echo "[ERROR] Could not resolve host repo.maven.apache.org"; exit 1'


@dataclass
class Machine:
    """A machine with some Java, some Maven, and perhaps jars already."""

    root: Path
    java: str | None = None
    maven: str | None = None
    cached: bool = False
    kafka_home: str | None = None
    said: list[str] = field(default_factory=list)

    def environ(self, **more: str) -> dict[str, str]:
        programs = self.root / "bin"
        programs.mkdir(exist_ok=True)
        if self.java:
            _program(programs / "java", f"echo 'openjdk version \"{self.java}\" 2025-04-15' >&2")
        if self.maven:
            _program(programs / "mvn", self.maven)
        if self.cached:
            self.cache.mkdir(parents=True)
            (self.cache / f"kafka_2.13-{KAFKA_VERSION}.jar").touch()
        environ = {"PATH": str(programs), "XDG_CACHE_HOME": str(self.root / "cache"), **more}
        if self.kafka_home is not None:
            libs = self.root / "kafka" / "libs"
            libs.mkdir(parents=True)
            if self.kafka_home == "good":
                (libs / "kafka_2.13-4.0.0.jar").touch()
            environ["KAFKA_HOME"] = str(libs.parent)
        return environ

    @property
    def cache(self) -> Path:
        return self.root / "cache" / "budget_bus" / f"kafka-{KAFKA_VERSION}"

    async def resolve(self, configured: str | None = None, **more: str) -> object:
        return await resolve(
            self.root / "data", configured=configured, environ=self.environ(**more), say=self.said.append
        )


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("machine", "expected", "why"),
    [
        pytest.param({}, TrialBroker, "Java 17 or newer is not installed", id="no Java: trial"),
        pytest.param({"java": "11.0.2"}, TrialBroker, "is Java 11; Kafka needs 17", id="old Java: trial"),
        pytest.param({"java": "1.8.0_392"}, TrialBroker, "is Java 8;", id="Java 8 calls itself 1.8"),
        pytest.param({"java": "17.0.15"}, TrialBroker, "Maven is not installed", id="no Maven and no jars: trial"),
        pytest.param({"java": "17.0.15", "cached": True}, ApacheKafka, None, id="jars in the cache: no Maven needed"),
        pytest.param({"java": "25", "kafka_home": "good"}, ApacheKafka, None, id="KAFKA_HOME: no Maven needed"),
        pytest.param({"kafka_home": "good"}, TrialBroker, "is not installed", id="KAFKA_HOME without Java: trial"),
        pytest.param({"java": "21.0.1", "maven": _MAVEN_WORKS}, ApacheKafka, "downloading", id="Maven fetches them"),
        pytest.param({"java": "21", "maven": _MAVEN_FAILS}, TrialBroker, "Could not resolve host", id="Maven fails"),
        pytest.param({"java": "21", "maven": "exit 0"}, TrialBroker, "brought no Kafka", id="Maven brings nothing"),
    ],
)
async def test_choice(tmp_path: Path, machine: dict[str, str], expected: type, why: str | None) -> None:
    here = Machine(tmp_path, **machine)
    assert isinstance(await here.resolve(), expected)
    said = "\n".join(here.said)
    assert why is None or why in said
    assert ("NOT crash-durable" in said) == (expected is TrialBroker)


@pytest.mark.parametrize("machine", [{}, {"java": "11"}, {"java": "21", "maven": _MAVEN_FAILS}])
async def test_required_kafka_never_falls_back(tmp_path: Path, machine: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="BUDGET_REQUIRE_KAFKA is set, but there is no Apache Kafka: "):
        await Machine(tmp_path, **machine).resolve(BUDGET_REQUIRE_KAFKA="1")


async def test_configured_servers_win(tmp_path: Path) -> None:
    here = Machine(tmp_path, java="21", cached=True)
    assert await here.resolve("broker:9092") == Configured("broker:9092")
    assert here.said == []


async def test_wrong_kafka_home_is_an_error_not_a_fallback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no Kafka in"):
        await Machine(tmp_path, java="21", kafka_home="empty", maven=_MAVEN_WORKS).resolve()


async def test_broken_download_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    here = Machine(tmp_path, java="21", maven=f"{_MAVEN_WORKS} exit 1")
    await here.resolve()
    assert list(here.cache.parent.iterdir()) == []


async def test_second_start_uses_the_cache(tmp_path: Path) -> None:
    first = Machine(tmp_path, java="21", maven=_MAVEN_WORKS)
    await first.resolve()
    second = Machine(tmp_path, maven=_MAVEN_FAILS)
    assert isinstance(await second.resolve(), ApacheKafka)
    assert second.said == []
