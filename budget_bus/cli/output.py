"""Files that commands write: whole under their name, or not there."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer

OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file, not to standard output.")
]


@contextmanager
def written(path: Path | None) -> Iterator[IO[bytes]]:
    """
    A file to write to, which takes the name *path* only when all is written; standard output if there is no name.

    Nothing of it is left when the body fails, is interrupted, or the process is told to end by SIGTERM.

    Raises:
        typer.BadParameter: nothing can be written there.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        # Beside the final name, because only within one file system a file changes its name at once.
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}", param_hint="--output") from None
    # Its usual handling ends the process before the file is removed.
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror or error}", param_hint="--output") from None
    finally:
        Path(name).unlink(missing_ok=True)
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
