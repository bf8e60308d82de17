"""How far a long step is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_EVERY_S = 5.0


class Meter:
    """Counts rows of one step on stderr; *total* None where it is not known."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self.done = 0
        self._what, self._total = what, total
        self._said = monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _bar(self._what, self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            progress, task = self._bar
            progress.update(task, completed=self.done, total=self.done if kind is None else self._total)
            progress.stop()

    def advance(self, rows: int = 1) -> None:
        """So many rows more are done."""
        self.done += rows
        if self._bar:
            self._bar[0].update(self._bar[1], completed=self.done)
        elif monotonic() - self._said >= _LINE_EVERY_S:
            self._said = monotonic()
            of = "" if self._total is None else f" of {self._total}"
            print(f"{self._what}: {self.done}{of} rows", file=sys.stderr, flush=True)


def _bar(what: str, total: int | None) -> tuple[Progress, TaskID]:
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    progress = Progress(
        TextColumn("{task.description:>10}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    progress.start()
    return progress, progress.add_task(what, total=total)
