"""One process of ours: started, watched, stopped. On Linux it dies with us, also when we are killed with -9."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from budget_bus.errors import BudgetUnavailable

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_QUOTED_CHARACTERS = 300
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


@dataclass(frozen=True, slots=True)
class Account:
    """The Unix ids that a child runs under instead of ours."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a process and which signals end it; *death_signal* is sent when we die ourselves."""

    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    cwd: Path | None = None


class Part(Protocol):
    """What the supervisor keeps alive: a process that can be prepared, started and asked whether it answers."""

    @property
    def name(self) -> str: ...

    async def prepare(self) -> None:
        """Make the next start possible. Called before every start, also after a crash."""

    def command(self) -> Command: ...

    async def ready(self) -> None:
        """Return once the started process answers. Cancelled when it dies first."""


@dataclass(slots=True)
class Child:
    """A running process. `wait` may be awaited by any number of tasks."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    stop_signal: signal.Signals
    started_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def pid(self) -> int:
        return self.process.pid

    async def wait(self) -> int:
        """The exit code, or minus the signal's number."""
        return await self.process.wait()

    async def stop(self, grace_s: float) -> None:
        """Ask it to stop, and kill it when it has not done so within *grace_s*."""
        self.signal(self.stop_signal)
        try:
            async with asyncio.timeout(grace_s):
                await self.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.wait()

    def signal(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


async def spawn(name: str, command: Command, log: Path) -> Child:
    """
    Start a process in a session of its own, so that Ctrl-C in the terminal reaches us alone.

    Call it in the main thread: Linux sends the death signal when the *thread* that forked is gone.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    account = command.account
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if command.env is None else dict(command.env),
            cwd=command.cwd,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid(), command.death_signal),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    return Child(name, process, log, command.stop_signal)


async def start(part: Part, log: Path, *, patience_s: float = 60) -> Child:
    """
    Prepare and start *part* and return once it answers.

    Raises:
        BudgetUnavailable: it died or stayed silent; the last line of its log is in the text. Nothing is left running.
    """
    await part.prepare()
    child = await spawn(part.name, part.command(), log)
    try:
        await answering(part, child, patience_s)
    except BaseException:
        child.signal(signal.SIGKILL)
        await child.wait()
        raise
    return child


async def answering(part: Part, child: Child, patience_s: float) -> None:
    """Wait until *part* is ready; raise BudgetUnavailable when *child* dies first or patience runs out."""
    ready = asyncio.ensure_future(part.ready())
    gone = asyncio.ensure_future(child.wait())
    try:
        await asyncio.wait({ready, gone}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise BudgetUnavailable(f"{part.name} {ended(gone.result())} while it started: {last_line(child.log)}")
        if not ready.done():
            raise BudgetUnavailable(f"{part.name} did not answer within {patience_s:g} s: {last_line(child.log)}")
        ready.result()
    finally:
        for task in (ready, gone):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def ended(code: int) -> str:
    """How a process ended, in words: `exited with 3`, `was killed by SIGKILL`."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def last_line(log: Path) -> str:
    """The last line of a log that says something, or a remark that there is none."""
    lines = last_lines(log, 1)
    return lines[0][:_QUOTED_CHARACTERS] if lines else f"{log} is empty"


def last_lines(log: Path, count: int) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def _die_with(parent: int, death_signal: signal.Signals) -> Callable[[], None] | None:
    libc = _LIBC
    if libc is None:
        return None

    def ask_for_death_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            # We died between fork and prctl: nobody would send the signal any more.
            os._exit(1)

    return ask_for_death_signal
