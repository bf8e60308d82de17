"""Restarts, back-off and stopping, with tiny real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from budget_bus.errors import BudgetUnavailable
from budget_bus.local.child import Command, ended, last_line
from budget_bus.local.supervisor import Backoff, Supervisor

_LIVES = "import signal; print('up', flush=True); signal.pause()"
_STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
_PATIENCE_S = 20


@dataclass
class Script:
    """A part that runs Python code; ready once its log has a line for every start, or *at_once* like our roles."""

    name: str
    log: Path
    code: str = _LIVES
    at_once: bool = False
    prepared: int = 0

    async def prepare(self) -> None:
        self.prepared += 1

    def command(self) -> Command:
        return Command((sys.executable, "-S", "-c", self.code))

    async def ready(self) -> None:
        while not self.at_once and (not self.log.exists() or self.log.read_text().count("up") < self.prepared):  # noqa: ASYNC110 - a process
            await asyncio.sleep(0.005)


@dataclass
class Ear:
    """Hears what the supervisor says, and lets a test wait for it."""

    heard: list[str] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def say(self, line: str) -> None:
        self.heard.append(line)
        task = asyncio.create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self.news:
            self.news.notify_all()

    async def until(self, text: str, times: int = 1) -> None:
        async with asyncio.timeout(_PATIENCE_S), self.news:
            await self.news.wait_for(lambda: sum(text in line for line in self.heard) >= times)


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def supervisor(tmp_path: Path, ear: Ear) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(tmp_path, ear.say, Backoff(first_s=0.01, most_s=0.04), patience_s=_PATIENCE_S, grace_s=5)
    yield supervisor
    await supervisor.stop()


def part(supervisor: Supervisor, name: str, code: str = _LIVES, *, at_once: bool = False) -> Script:
    return Script(name, supervisor.log_of(name), code, at_once)


async def test_a_killed_part_comes_back(supervisor: Supervisor, ear: Ear) -> None:
    child = await supervisor.add(part(supervisor, "settler"))
    os.kill(child.pid, signal.SIGKILL)
    await ear.until("settler is back")
    assert ear.heard[0] == "settler was killed by SIGKILL; next try in 0.01 s"
    assert supervisor.pids()["settler"] != child.pid


async def test_pauses_double_up_to_the_most_and_the_log_is_quoted(supervisor: Supervisor, ear: Ear) -> None:
    await supervisor.add(part(supervisor, "relay", "print('no disk left'); raise SystemExit(3)", at_once=True))
    await ear.until("next try", times=4)
    tries = [line for line in ear.heard if "next try" in line][:4]
    assert [line.split("next try in ")[1].split(" s")[0] for line in tries] == ["0.01", "0.02", "0.04", "0.04"]
    assert tries[0].startswith("relay exited with 3")
    assert tries[1].endswith("Its log ends: no disk left")
    assert supervisor.failing()["relay"] >= 4


async def test_a_long_life_resets_the_pause(tmp_path: Path, ear: Ear) -> None:
    supervisor = Supervisor(tmp_path, ear.say, Backoff(first_s=0.01, most_s=1, reset_s=0), patience_s=_PATIENCE_S)
    await supervisor.add(part(supervisor, "relay", "pass", at_once=True))
    await ear.until("next try", times=3)
    await supervisor.stop()
    assert {line.split("next try in ")[1] for line in ear.heard if "next try" in line} == {"0.01 s"}


async def test_a_part_that_never_starts_is_an_error_with_its_last_words(supervisor: Supervisor) -> None:
    with pytest.raises(BudgetUnavailable, match=r"kafka exited with 1 while it started: no room$"):
        await supervisor.add(part(supervisor, "kafka", "raise SystemExit('no room')"))
    assert supervisor.pids() == {}


async def test_stop_ends_parts_in_reverse_order_and_groups_together(supervisor: Supervisor, tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import signal,sys\ntry:\n signal.signal(15, lambda *a: sys.exit()); print('up', flush=True); signal.pause()\n"
    )
    for name in ("database", "broker", "gateway", "relay"):
        await supervisor.add(
            part(supervisor, name, f"{code}finally:\n open({str(order)!r}, 'a').write({name!r} + ' ')")
        )
    await supervisor.stop({"gateway", "relay"})
    stopped = order.read_text().split()
    assert set(stopped[:2]) == {"gateway", "relay"}
    assert stopped[2:] == ["broker", "database"]
    assert supervisor.pids() == {}


async def test_insisting_kills_what_does_not_stop(supervisor: Supervisor) -> None:
    child = await supervisor.add(part(supervisor, "gateway", _STUBBORN))
    supervisor.grace_s = 3600
    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0)  # One turn of the loop, so that stopping has begun.
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert await asyncio.wait_for(child.wait(), _PATIENCE_S) == -signal.SIGKILL


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells children of their parent's death")
async def test_everything_dies_with_the_supervisor(tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
from pathlib import Path
from budget_bus.local.child import Command
from budget_bus.local.supervisor import Supervisor
class Sleeper:
    name = "sleeper"
    async def prepare(self): pass
    async def ready(self): pass
    def command(self): return Command((sys.executable, "-S", "-c", {_STUBBORN!r}))
async def main():
    child = await Supervisor(Path({str(tmp_path)!r}), print).add(Sleeper())
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = os.pidfd_open(int(await asyncio.wait_for(parent.stdout.readline(), _PATIENCE_S)))
    parent.kill()
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(child, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), _PATIENCE_S)
    finally:
        asyncio.get_running_loop().remove_reader(child)
        os.close(child)
        await parent.wait()


@pytest.mark.parametrize(
    ("failures", "pause_s"), [(1, 0.2), (2, 0.4), (3, 0.8), (5, 3.2), (6, 5.0), (7, 5.0), (5000, 5.0)]
)
def test_default_pauses(failures: int, pause_s: float) -> None:
    assert Backoff().after(failures) == pytest.approx(pause_s)


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exited with 0"), (-9, "was killed by SIGKILL"), (-63, "was killed by signal 63")]
)
def test_ends_in_words(code: int, words: str) -> None:
    assert ended(code) == words


def test_last_line_skips_blank_ones_and_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert last_line(log) == f"{log} is empty"
    log.write_text("first\n" + "x" * 5000 + "\n\n  \n")
    assert last_line(log).startswith("x")
    assert len(last_line(log)) < 400
