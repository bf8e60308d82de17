"""README.md done literally: every block of commands and of Python, in order, against a running `budget up`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from budget_bus.local.kafka import REQUIRE, ApacheJars, Download, plan
from budget_bus.local.ports import free_port

README = Path(__file__).parents[2] / "README.md"
_READY_S = 120
_BLOCK_S = 60
_DOCUMENTED_PORT = "8013"
_BLOCK = re.compile(
    r"(?:<!-- not run in CI[^:]*: (?P<why>[^>]+) -->\n)?^```(?P<kind>\w+)\n(?P<code>.*?)^```$", re.S | re.M
)
# A test run in the background ignores SIGINT, and so would its children.
_UP = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from budget_bus.cli import main; main()"


@dataclass(frozen=True)
class Block:
    """A block of code; *why* is the reason for which it is not run."""

    line: int
    kind: str
    code: str
    why: str | None


def blocks(text: str) -> list[Block]:
    return [
        Block(text[: found.start("code")].count("\n") + 1, found["kind"], found["code"], found["why"])
        for found in _BLOCK.finditer(text)
    ]


@dataclass(frozen=True)
class Place:
    """A directory in which `budget up` runs, as a reader has it: with the `.venv` that `make up` makes."""

    directory: Path
    port: int

    @property
    def environ(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "BUDGET_PORT": str(self.port)}

    async def run(self, *command: str) -> str:
        """What *command* prints; it must end well."""
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self.directory,
            env=self.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _BLOCK_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"exit status {process.returncode} of {command[-1]}\n{output.decode()}"
        return output.decode()

    async def run_block(self, block: Block) -> None:
        """Fails with what *block* printed unless it works."""
        code = block.code.replace(f"127.0.0.1:{_DOCUMENTED_PORT}", f"127.0.0.1:{self.port}")
        program = ("bash", "-euo", "pipefail") if block.kind == "bash" else (sys.executable,)
        said = await self.run(*program, "-c", code)
        # curl ends well whatever the gateway answers.
        assert not re.search(r'Traceback|"status": ?[45]\d\d', said), said

    async def budget(self, *arguments: str) -> str:
        return await self.run(sys.executable, "-m", "budget_bus.cli", *arguments)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="budget-readme-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        Path(name, ".venv").symlink_to(sys.prefix)
        yield Path(name)


@pytest.fixture
async def place(directory: Path) -> AsyncIterator[Place]:
    """A `budget up` on Apache Kafka, of a directory of its own."""
    if shutil.which("curl") is None:
        _missing("curl is not installed (Debian: curl)")
    if not isinstance(found := plan(os.environ), ApacheJars | Download):
        _missing(f"no Apache Kafka on this machine: {found}")
    place = Place(directory, free_port())
    up = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _UP, "up"),
        cwd=directory,
        env={**place.environ, REQUIRE: "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        await asyncio.wait_for(_until_ready(up), _READY_S)
        yield place
        up.send_signal(signal.SIGINT)
        await asyncio.wait_for(up.communicate(), _BLOCK_S)
        assert up.returncode == 0
    finally:
        if up.returncode is None:
            up.kill()
            await up.communicate()


def _missing(reason: str) -> None:
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


async def _until_ready(up: asyncio.subprocess.Process) -> None:
    lines = []
    assert up.stdout is not None
    async for raw in up.stdout:
        lines.append(raw.decode().rstrip())
        if lines[-1].startswith("ready: "):
            return
    pytest.fail("\n".join(["`budget up` ended", *lines]))


async def test_every_block_of_the_readme_works_as_written(place: Place) -> None:
    for block in blocks(README.read_text(encoding="utf-8")):
        if block.kind in ("bash", "python") and not block.why:
            try:
                await place.run_block(block)
            except (AssertionError, TimeoutError) as error:
                pytest.fail(f"README.md:{block.line}: {error}")

    # Five ways to record one call of 0.0035 USD each, ten calls under leases, a raw response of 0.005615 USD, and two
    # rows of an import.
    usage = ("get-usage", "daily", "--group-by", "component", "--format", "json")
    span = ("--start", "2023-11-01T00:00:00Z", "--end", "2100-01-01T00:00:00Z")
    wanted = [("code", 2, "0.02015"), ("rhetor", 16, "0.058115")]
    rows: list[tuple[str, int, str]] = []
    async with asyncio.timeout(_BLOCK_S):
        while rows != wanted:
            groups = json.loads(await place.budget(*usage, *span))["groups"]
            rows = sorted((group["key"]["component"], group["requests"], group["cost"]) for group in groups)
        letters: list[dict[str, str]] = []
        while not letters:
            letters = json.loads(await place.budget("dlq", "list", "--format", "json"))
    assert len(letters) == 1
    assert "add up" in await place.budget("db", "check")
    holds: dict[str, int] = {}
    async with asyncio.timeout(_BLOCK_S):
        while holds != {"open": 0, "unconfirmed": 0}:  # the rest of a lease comes back when its bus has stopped
            status = json.loads(await place.budget("status", "--format", "json"))
            holds = status["holds"]
    assert status["broker"]["kind"] == "apache"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        pytest.param("bash", "false\ntrue\n", id="a command that fails is not hidden by the next"),
        pytest.param("bash", """echo '{"type":"invalid-input","status":422}'\n""", id="a refusal, which curl prints"),
        pytest.param("python", "raise ValueError\n", id="an exception"),
    ],
)
async def test_a_block_that_does_not_work_is_seen(directory: Path, kind: str, code: str) -> None:
    with pytest.raises(AssertionError):
        await Place(directory, free_port()).run_block(Block(1, kind, code, None))


def test_only_make_is_not_run_and_says_why() -> None:
    left_out = [block for block in blocks(README.read_text(encoding="utf-8")) if block.why]
    assert [block.code.strip() for block in left_out] == ["make up", "make test"]


def test_a_block_keeps_its_line_its_kind_and_its_reason() -> None:
    text = "one\n```bash\ntrue\n```\n<!-- not run in CI: it waits. -->\n```python\nx = 1\n```\n"
    assert blocks(text) == [Block(3, "bash", "true\n", None), Block(7, "python", "x = 1\n", "it waits.")]
