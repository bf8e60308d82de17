"""`budget up` as a user runs it: reaches ready, heals, refuses to start twice, leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from budget_bus.local import state
from budget_bus.local.ports import free_port

_READY_S = 120
_STOP_S = 60

COMMAND = (sys.executable, "-m", "budget_bus.cli", "up")
LAUNCH = Path(__file__).parents[2] / "scripts" / "tekton-launch"


@dataclass
class Up:
    """A running `budget up` and what it has printed so far."""

    process: asyncio.subprocess.Process
    directory: Path
    port: int
    lines: list[str] = field(default_factory=list)

    async def until(self, pattern: str, within_s: float = _READY_S) -> str:
        """The next line that matches *pattern*."""
        assert self.process.stdout is not None
        async with asyncio.timeout(within_s):
            async for raw in self.process.stdout:
                self.lines.append(raw.decode().rstrip("\n"))
                if re.search(pattern, self.lines[-1]):
                    return self.lines[-1]
        pytest.fail("\n".join(["it ended without the line", *self.lines]))

    async def rest(self) -> str:
        output, _ = await asyncio.wait_for(self.process.communicate(), _STOP_S)
        return "\n".join([*self.lines, output.decode()])

    def children(self) -> dict[int, str]:
        """Every process that works for this directory, with its command line."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                environ = (entry / "environ").read_bytes()
                if str(self.directory) in words or f"BUDGET_DATA_DIR={self.directory}".encode() in environ:
                    found[int(entry.name)] = words
        found.pop(self.process.pid, None)
        return found


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="budget-up-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@asynccontextmanager
async def budget_up(directory: Path, port: int, command: Sequence[str | Path] = COMMAND) -> AsyncIterator[Up]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        env={**os.environ, "BUDGET_PORT": str(port), "BUDGET_DATA_DIR": str(directory / "data")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    up = Up(process, directory / "data", port)
    try:
        yield up
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_reaches_ready_heals_and_leaves_nothing_behind(directory: Path) -> None:
    port = free_port()
    async with budget_up(directory, port) as up:
        assert await up.until("^ready: ") == f"ready: http://127.0.0.1:{port}"
        await _answers(port)

        stack = state.running(up.directory)
        assert stack is not None
        assert stack.pid == up.process.pid
        told = "\n".join(up.lines)
        assert stack.bootstrap_servers in told
        assert f"budget ask: 127.0.0.1:{stack.ai_port} (the budget specialist)" in told
        assert "nobody made any calls" in await _asked(port, up.directory)

        settler = next(pid for pid, words in up.children().items() if words.endswith("serve settler"))
        os.kill(settler, signal.SIGKILL)
        await up.until("settler was killed by SIGKILL; next try in 0.2 s")
        await up.until("settler is back")

        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "budget_bus.cli", "up"),
            cwd=directory,
            env={**os.environ, "BUDGET_DATA_DIR": str(up.directory)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(second.communicate(), _STOP_S)
        assert second.returncode == 1
        assert re.search(
            rf"runs already in .* at http://127.0.0.1:{port} \(process {up.process.pid}\)", output.decode()
        )

        up.process.send_signal(signal.SIGINT)
        assert "Traceback" not in await up.rest()
        assert up.process.returncode == 0
        assert up.children() == {}
        assert state.running(up.directory) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells children of their parent's death")
async def test_kill_9_leaves_nothing_behind_and_the_next_start_finds_its_data(directory: Path) -> None:
    port = free_port()
    limit = {"period": "daily", "limit": "12.5", "name": "kept"}
    async with budget_up(directory, port) as up:
        await up.until("^ready: ")
        async with httpx2.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.post("/api/limits", json=limit)).status_code == 201
        watched = [os.pidfd_open(pid) for pid in up.children()]
        up.process.kill()
        for pidfd in watched:
            await _readable(pidfd)
        assert up.children() == {}
    async with budget_up(directory, port) as up:
        await up.until("^ready: ")
        async with httpx2.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}") as client:
            assert "kept" in (await client.get("/api/limits")).text
        up.process.send_signal(signal.SIGTERM)
        await up.rest()
        assert up.process.returncode == 0


async def test_a_port_in_use_is_one_clear_line(directory: Path) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, budget_up(directory, port) as up:
        output = await up.rest()
    assert up.process.returncode == 1
    expected = f"error: port {port} of 127.0.0.1 is in use by another program; set BUDGET_PORT to a free port"
    assert output.strip() == expected


async def test_a_port_of_the_specialist_in_use_names_its_setting(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    taken = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("BUDGET_AI_PORT", str(taken))
    async with server, budget_up(directory, free_port()) as up:
        output = await up.rest()
    assert up.process.returncode == 1
    expected = f"error: port {taken} of 127.0.0.1 is in use by another program; set BUDGET_AI_PORT to a free port"
    assert output.strip() == expected


async def _asked(port: int, directory: Path) -> str:
    """What `budget ask` says in the directory of the stack, which tells it where the specialist listens."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "budget_bus.cli", "ask", "who spent most today?"),
        env={**os.environ, "BUDGET_PORT": str(port), "BUDGET_DATA_DIR": str(directory)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), _STOP_S)
    return output.decode()


async def _answers(port: int) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/health/ready")).status_code == 200


async def _readable(pidfd: int) -> None:
    """A pidfd becomes readable when its process is gone."""
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), _STOP_S)
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


@pytest.mark.parametrize(
    "command",
    [(sys.executable, "-m", "budget.api.app", "--debug"), (LAUNCH, "--components", "budget")],
    ids=["python -m budget.api.app", "tekton-launch"],
)
async def test_the_platform_s_own_ways_start_it_too(directory: Path, command: Sequence[str | Path]) -> None:
    port = free_port()
    async with budget_up(directory, port, command) as up:
        assert await up.until("^ready: ") == f"ready: http://127.0.0.1:{port}"
        up.process.send_signal(signal.SIGINT)
        assert "Traceback" not in await up.rest()
        assert up.process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param((), "say which component", id="nothing"),
        pytest.param(("--components",), "needs a name", id="no name"),
        pytest.param(("--components", "hermes"), "'hermes' is not here", id="another component"),
    ],
)
async def test_what_cannot_be_launched_is_bad_usage(arguments: Sequence[str], says: str) -> None:
    process = await asyncio.create_subprocess_exec(LAUNCH, *arguments, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 2
    assert says in said.decode()
