"""Java 17+ and the jars of Apache Kafka: from KAFKA_HOME, from our cache, or once by Maven into the cache."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from budget_bus.errors import BudgetUnavailable, ConfigError

KAFKA_VERSION = "4.2.2"
MINIMUM_JAVA = 17  # KIP-1013: brokers of Kafka 4 need Java 17
_DOWNLOAD_PATIENCE_S = 900
_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>budget_bus</groupId>
  <artifactId>kafka-jars</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


@dataclass(frozen=True, slots=True)
class Java:
    path: Path
    version: int


def find_java(environ: Mapping[str, str]) -> Java | None:
    """The Java of JAVA_HOME, else of PATH, whatever its version; None when there is none that runs."""
    candidates = []
    if environ.get("JAVA_HOME"):
        candidates.append(Path(environ["JAVA_HOME"], "bin", "java"))
    on_path = shutil.which("java", path=environ.get("PATH", ""))
    if on_path:
        candidates.append(Path(on_path))
    for path in candidates:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            answer = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=20, check=True)
            match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
            if match:
                return Java(path, int(match.group(1)))
    return None


def find_maven(environ: Mapping[str, str]) -> Path | None:
    found = shutil.which("mvn", path=environ.get("PATH", ""))
    return Path(found) if found else None


def installed_jars(environ: Mapping[str, str]) -> Path | None:
    """
    The `libs` of KAFKA_HOME, or None when it is not set.

    Raises:
        ConfigError: KAFKA_HOME is set but no Kafka is there; falling back silently would hide the mistake.
    """
    home = environ.get("KAFKA_HOME", "").strip()
    if not home:
        return None
    libs = Path(home, "libs").absolute()
    if not any(libs.glob("kafka_2.*.jar")):
        raise ConfigError(f"KAFKA_HOME={home}: there is no Kafka in {libs}")
    return libs


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Where the jars of our Kafka version belong, outside of any clone: `~/.cache/budget_bus/kafka-<version>`."""
    base = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or Path.home(), ".cache")
    return Path(base, "budget_bus", f"kafka-{KAFKA_VERSION}")


def cached_jars(environ: Mapping[str, str]) -> Path | None:
    directory = cache_dir(environ)
    return directory if any(directory.glob("kafka_2.*.jar")) else None


async def download_jars(maven: Path, environ: Mapping[str, str]) -> Path:
    """
    Fetch the jars of Apache Kafka with Maven, which checks their checksums, and keep them in the cache.

    Raises:
        BudgetUnavailable: Maven failed; its reason is in the text. The cache is as it was.
    """
    target = cache_dir(environ)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    except OSError as error:
        raise BudgetUnavailable(f"cannot write to {target.parent}: {error.strerror}") from None
    try:
        (scratch / "pom.xml").write_text(_POM)
        await _run_maven(maven, scratch, environ)
        jars = scratch / "jars"
        if not any(jars.glob(f"kafka_2.*-{KAFKA_VERSION}.jar")):
            raise BudgetUnavailable("Maven ended well but brought no Kafka")
        # The cache gets its name when it is whole, so that a broken download is never used. When another process
        # was faster, its jars are the same.
        with contextlib.suppress(OSError):
            jars.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


async def _run_maven(maven: Path, directory: Path, environ: Mapping[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(str(maven), "-q", "-B", "-C", "-Dstyle.color=never", "-f", str(directory / "pom.xml")),
        "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
        *("-DincludeScope=runtime", f"-DoutputDirectory={directory / 'jars'}"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(environ),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_DOWNLOAD_PATIENCE_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise BudgetUnavailable(f"Maven was not done after {_DOWNLOAD_PATIENCE_S} s") from None
    finally:
        if process.returncode is None:
            # mvn is a script: its Java is in the same session and must not go on alone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode != 0:
        raise BudgetUnavailable(f"Maven failed: {_reason(output.decode(errors='replace'))}")


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("[ERROR]").strip() for line in lines if line.startswith("[ERROR]")]
    return next(iter(errors or lines[-1:]), "it said nothing")
