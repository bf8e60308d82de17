"""Keeps parts alive: starts each one, restarts one that dies with back-off, stops them in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from budget_bus.errors import BudgetError
from budget_bus.local.child import Child, Part, answering, ended, last_line, spawn, start


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a restart; a part that has lived *reset_s* starts from *first_s* again."""

    first_s: float = 0.2
    most_s: float = 5.0
    reset_s: float = 30.0

    def after(self, failures: int) -> float:
        """The pause after this many failures in a row, counted from 1."""
        return float(min(self.most_s, self.first_s * 2 ** min(failures - 1, 30)))


@dataclass(slots=True)
class _Kept:
    part: Part
    child: Child | None
    failures: int = 0
    keeper: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Supervisor:
    """
    The parent of all parts. *say* gets one line per death and return; every part logs to `<logs>/<name>.log`.

    Linux kills the parts when the thread that started them ends, so it belongs into the main thread.
    """

    logs: Path
    say: Callable[[str], None]
    backoff: Backoff = field(default_factory=Backoff)
    patience_s: float = 60
    grace_s: float = 10
    _kept: list[_Kept] = field(default_factory=list)
    _stopping: bool = False

    async def add(self, part: Part) -> Child:
        """
        Start *part* and keep it running from now on; returns once it answers.

        Raises:
            BudgetUnavailable: its first start failed; it is not kept.
        """
        child = await start(part, self.log_of(part.name), patience_s=self.patience_s)
        kept = _Kept(part, child)
        self._kept.append(kept)
        kept.keeper = asyncio.create_task(self._keep(kept), name=f"keep {part.name}")
        return child

    def log_of(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def pids(self) -> dict[str, int]:
        """The process of every part that runs at this moment."""
        return {kept.part.name: kept.child.pid for kept in self._kept if kept.child and _runs(kept.child)}

    def failing(self) -> dict[str, int]:
        """How often in a row each part that is in trouble has died."""
        return {kept.part.name: kept.failures for kept in self._kept if kept.failures}

    async def stop(self, *groups: set[str]) -> None:
        """
        Stop everything in reverse order of its start, each part with `grace_s` to end by itself.

        The parts of one of *groups* are stopped together. Cancelled (somebody insisted), it kills what is left.
        """
        self._stopping = True
        try:
            keepers = [kept.keeper for kept in self._kept if kept.keeper]
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            for batch in self._batches(groups):
                await asyncio.gather(*(child.stop(self.grace_s) for child in batch))
        finally:
            await self._kill()

    def _batches(self, groups: tuple[set[str], ...]) -> list[list[Child]]:
        batches: list[tuple[set[str], list[Child]]] = []
        for kept in reversed(self._kept):
            if kept.child is None:
                continue
            group = next((group for group in groups if kept.part.name in group), {kept.part.name})
            if batches and batches[-1][0] == group:
                batches[-1][1].append(kept.child)
            else:
                batches.append((group, [kept.child]))
        return [children for _, children in batches]

    async def _kill(self) -> None:
        children = [kept.child for kept in self._kept if kept.child]
        for child in children:
            child.signal(signal.SIGKILL)
        await asyncio.gather(*(child.wait() for child in children))

    async def _keep(self, kept: _Kept) -> None:
        name = kept.part.name
        while not self._stopping:
            if kept.child is not None:
                code = await kept.child.wait()
                lived_s = asyncio.get_running_loop().time() - kept.child.started_at
                kept.failures = 1 if lived_s >= self.backoff.reset_s else kept.failures + 1
                how = ended(code)
            else:
                kept.failures += 1
                how = "could not be started"
            pause_s = self.backoff.after(kept.failures)
            self.say(f"{name} {how}; next try in {pause_s:g} s{self._why(kept)}")
            await asyncio.sleep(pause_s)
            await self._restart(kept)

    async def _restart(self, kept: _Kept) -> None:
        name = kept.part.name
        kept.child = None
        try:
            await kept.part.prepare()
            child = kept.child = await spawn(name, kept.part.command(), self.log_of(name))
        except (BudgetError, OSError) as error:
            self.say(f"{name}: {error}")
            return
        try:
            await answering(kept.part, child, self.patience_s)
        except BudgetError as error:
            if _runs(child):
                self.say(f"{error}; killing it")
                child.signal(signal.SIGKILL)
        else:
            self.say(f"{name} is back (process {child.pid})")

    def _why(self, kept: _Kept) -> str:
        # The first death is often somebody's doing; from the second on the reason is in the log.
        return f". Its log ends: {last_line(self.log_of(kept.part.name))}" if kept.failures > 1 else ""


def _runs(child: Child) -> bool:
    return child.process.returncode is None


async def cancelled_by(event: asyncio.Event, task: asyncio.Task[None]) -> None:
    """Await *task*; cancel it when *event* is set first."""
    watcher = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        watcher.cancel()
