"""The documents done literally: every block of commands and of Python, in order, against a running `budget up`."""

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
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from budget_bus.local.kafka import REQUIRE, ApacheJars, Download, plan
from budget_bus.local.ports import free_port

ROOT = Path(__file__).parents[2]
README = "README.md"
# On one `budget up` and in this order: README counts what it has recorded. The others use components of their own.
DOCUMENTS = (
    README,
    "docs/integration_guide.md",
    "docs/policies.md",
    "docs/component_authors.md",
    "docs/operators.md",
)
_READY_S = 120
_BLOCK_S = 120  # one of them starts a second service
_DOCUMENTED_PORT = "8013"
_BLOCK = re.compile(
    r"(?:<!-- not run in CI[^:]*: (?P<why>[^>]+) -->\n)?^```(?P<kind>\w+)\n(?P<code>.*?)^```$"
    r"(?:\n\n^```text\n(?P<says>.*?)^```$)?",
    re.S | re.M,
)
# A test run in the background ignores SIGINT, and so would its children.
_UP = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from budget_bus.cli import main; main()"


@dataclass(frozen=True)
class Block:
    """
    A block of code; *why* is the reason for which it is not run. *says* is what it prints: the block of text that comes
    next, if there is one.
    """

    line: int
    kind: str
    code: str
    why: str | None
    says: str | None = None

    @property
    def is_run(self) -> bool:
        return self.kind in ("bash", "python") and not self.why


def blocks(text: str) -> list[Block]:
    return [
        Block(text[: found.start("code")].count("\n") + 1, found["kind"], found["code"], found["why"], found["says"])
        for found in _BLOCK.finditer(text)
    ]


def blocks_of(document: str) -> list[Block]:
    return blocks((ROOT / document).read_text(encoding="utf-8"))


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
        """Fails with what *block* printed unless it works, and prints what the document says that it does."""
        documented, real = f"127.0.0.1:{_DOCUMENTED_PORT}", f"127.0.0.1:{self.port}"
        program = ("bash", "-euo", "pipefail") if block.kind == "bash" else (sys.executable,)
        said = await self.run(*program, "-c", block.code.replace(documented, real))
        # curl ends well whatever the gateway answers.
        assert not re.search(r'Traceback|"status": ?[45]\d\d', said), said
        if block.says is not None:
            assert said.replace(real, documented).strip() == block.says.strip()

    async def budget(self, *arguments: str) -> str:
        return await self.run(sys.executable, "-m", "budget_bus.cli", *arguments)


@contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="budget-readme-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        Path(name, ".venv").symlink_to(sys.prefix)
        yield Path(name)


@pytest.fixture(scope="module")
async def place() -> AsyncIterator[Place]:
    """A `budget up` on Apache Kafka, of a directory of its own."""
    if shutil.which("curl") is None:
        _missing("curl is not installed (Debian: curl)")
    if not isinstance(found := plan(os.environ), ApacheJars | Download):
        _missing(f"no Apache Kafka on this machine: {found}")
    with directory() as where:
        async with _up(Place(where, free_port())) as place:
            yield place


@asynccontextmanager
async def _up(place: Place) -> AsyncIterator[Place]:
    up = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _UP, "up"),
        cwd=place.directory,
        env={**place.environ, REQUIRE: "1", "BUDGET_AI_PORT": str(free_port())},
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


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_every_block_works_as_written(place: Place, document: str) -> None:
    for block in blocks_of(document):
        if block.is_run:
            try:
                await place.run_block(block)
            except (AssertionError, TimeoutError) as error:
                pytest.fail(f"{document}:{block.line}: {error}")
    if document == README:
        await _look_at_what_the_readme_did(place)
    assert "add up" in await place.budget("db", "check")


async def _look_at_what_the_readme_did(place: Place) -> None:
    # Six ways to record one call of 0.0035 USD each, ten calls under leases, a raw response of 0.005615 USD, and two
    # rows of an import.
    usage = ("get-usage", "daily", "--group-by", "component", "--format", "json")
    span = ("--start", "2023-11-01T00:00:00Z", "--end", "2100-01-01T00:00:00Z")
    wanted = [("code", 2, "0.02015"), ("rhetor", 17, "0.061615")]
    rows: list[tuple[str, int, str]] = []
    async with asyncio.timeout(_BLOCK_S):
        while rows != wanted:
            groups = json.loads(await place.budget(*usage, *span))["groups"]
            rows = sorted((group["key"]["component"], group["requests"], group["cost"]) for group in groups)
        letters: list[dict[str, str]] = []
        while not letters:
            letters = json.loads(await place.budget("dlq", "list", "--format", "json"))
    assert len(letters) == 1
    holds: dict[str, int] = {}
    async with asyncio.timeout(_BLOCK_S):
        while holds != {"open": 0, "unconfirmed": 0}:  # the rest of a lease comes back when its bus has stopped
            status = json.loads(await place.budget("status", "--format", "json"))
            holds = status["holds"]
    assert status["broker"]["kind"] == "apache"


@pytest.mark.parametrize(
    ("kind", "code", "says"),
    [
        pytest.param("bash", "false\ntrue\n", None, id="a command that fails is not hidden by the next"),
        pytest.param(
            "bash", """echo '{"type":"invalid-input","status":422}'\n""", None, id="a refusal, which curl prints"
        ),
        pytest.param("python", "raise ValueError\n", None, id="an exception"),
        pytest.param("python", "print('allow')\n", "deny\n", id="something else than the document says"),
    ],
)
async def test_a_block_that_does_not_work_is_seen(kind: str, code: str, says: str | None) -> None:
    with directory() as where, pytest.raises(AssertionError):
        await Place(where, free_port()).run_block(Block(1, kind, code, None, says))


def test_only_these_are_not_run_and_say_why() -> None:
    left_out = {document: [block.code.strip() for block in blocks_of(document) if block.why] for document in DOCUMENTS}
    assert {document: code for document, code in left_out.items() if code} == {README: ["make up", "make test"]}


def test_a_block_keeps_its_line_its_kind_its_reason_and_what_it_says() -> None:
    text = "one\n```bash\ntrue\n```\n<!-- not run in CI: it waits. -->\n```python\nx = 1\n```\n"
    assert blocks(text) == [Block(3, "bash", "true\n", None), Block(7, "python", "x = 1\n", "it waits.")]
    text = "```python\nprint(1)\n```\n\n```text\n1\n```\n\n```text\nalone\n```\n"
    assert blocks(text) == [Block(2, "python", "print(1)\n", None, "1\n"), Block(10, "text", "alone\n", None)]
