"""Which broker: the configured one, else Apache Kafka on Java 17+, else the trial broker, with the reason in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from budget_bus.errors import BudgetUnavailable, ConfigError
from budget_bus.local import jars as kafka_jars
from budget_bus.local.apache import ApacheKafka, open_apache
from budget_bus.local.jars import KAFKA_VERSION, MINIMUM_JAVA, Java
from budget_bus.local.trial import WARNING, TrialBroker, open_trial

REQUIRE = "BUDGET_REQUIRE_KAFKA"


@dataclass(frozen=True, slots=True)
class Configured:
    """A broker that somebody else runs."""

    bootstrap_servers: str
    kind: str = "configured"


@dataclass(frozen=True, slots=True)
class ApacheJars:
    """Apache Kafka can run here: with which Java and which jars."""

    java: Java
    jars: Path


@dataclass(frozen=True, slots=True)
class Download:
    """Apache Kafka can run here once its jars are fetched."""

    java: Java
    maven: Path
    target: Path


Broker = Configured | ApacheKafka | TrialBroker


async def resolve(
    data_dir: Path, *, configured: str | None, environ: Mapping[str, str], say: Callable[[str], None]
) -> Broker:
    """
    Choose the broker and make it ready to be started; *say* hears of downloads and of a fallback.

    Raises:
        ConfigError: BUDGET_REQUIRE_KAFKA is set and only the trial broker is left, or there is none at all.
    """
    if configured:
        return Configured(configured)
    found = plan(environ)
    if isinstance(found, Download):
        found = await _download(found, environ, say)
    if isinstance(found, ApacheJars):
        return open_apache(data_dir, found.jars, found.java)
    if environ.get(REQUIRE, "").strip().lower() not in ("", "0", "false"):
        raise ConfigError(f"{REQUIRE} is set, but there is no Apache Kafka: {found}")
    say(f"no Apache Kafka: {found}")
    broker = open_trial(data_dir)
    say(f"WARNING: {WARNING}")
    return broker


def plan(environ: Mapping[str, str]) -> ApacheJars | Download | str:
    """How Apache Kafka can be had on this machine, or the reason why it cannot. Changes nothing."""
    installed = kafka_jars.installed_jars(environ)
    java = kafka_jars.find_java(environ)
    if java is None:
        return f"Java {MINIMUM_JAVA} or newer is not installed"
    if java.version < MINIMUM_JAVA:
        return f"{java.path} is Java {java.version}; Kafka needs {MINIMUM_JAVA} or newer"
    present = installed or kafka_jars.cached_jars(environ)
    if present:
        return ApacheJars(java, present)
    maven = kafka_jars.find_maven(environ)
    if maven is None:
        return "KAFKA_HOME is not set, and Maven is not installed to fetch it"
    return Download(java, maven, kafka_jars.cache_dir(environ))


async def _download(wanted: Download, environ: Mapping[str, str], say: Callable[[str], None]) -> ApacheJars | str:
    say(f"downloading Apache Kafka {KAFKA_VERSION} (44 MB, once) with Maven to {wanted.target}")
    started = monotonic()
    try:
        jars = await kafka_jars.download_jars(wanted.maven, environ)
    except BudgetUnavailable as error:
        return f"the download failed. {error}"
    say(f"downloaded in {monotonic() - started:.1f} s")
    return ApacheJars(wanted.java, jars)
