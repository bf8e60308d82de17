"""
Usage that could not be sent, in a local file until it can be: one event a line, as JSON, in the order it came.

Several processes and threads may share the file. `flock` on it guards every change; a second file, `PATH.lock`, is
held by the one who re-sends, which takes a while and must not hold up those who append. What is written is on the
disk when it is told. A crash leaves at most a torn last line, which belongs to an event that nobody was told of.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from time import monotonic

from budget_bus.errors import BudgetUnavailable

LIST_EVENTS = 1000  # the gateway takes no longer list
_LIST_BYTES = 4 * 1024 * 1024 - 2  # nor a larger body
_COPY_BYTES = 1024 * 1024
_REST_S = 5.0


@dataclass(frozen=True, slots=True)
class Refused:
    """What can never be recorded, and why."""

    line: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Some lines from the front: events, and what is none. `end` is where the rest begins, in bytes."""

    events: list[bytes]
    broken: list[Refused]
    end: int


class Spool:
    """The file at *path*, of at most *limit_bytes*. Raises OSError at once if it could not be written later."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.path = path.absolute()  # the working directory may change
        self._away_until = 0.0  # monotonic, as the other
        self._quiet_until = 0.0
        self._limit_bytes = limit_bytes
        with self._locked():
            pass

    @property
    def rests(self) -> bool:
        """Whether the service was away a moment ago, so that asking it would only hold up the caller."""
        return monotonic() < self._away_until

    def rest(self) -> None:
        """The service is away: for some seconds, usage is kept without asking."""
        self._away_until = monotonic() + _REST_S

    def wake(self) -> bool:
        """The service has answered. Whether there is something to re-send now; costs a microsecond."""
        self._away_until = 0.0
        return self.size() > 0 and monotonic() >= self._quiet_until

    def hush(self) -> None:
        """Re-sending has failed although calls work: for some seconds it is not tried with each of them."""
        self._quiet_until = monotonic() + _REST_S

    def size(self) -> int:
        """How long the file is now, in bytes."""
        try:
            return os.stat(self.path).st_size
        except FileNotFoundError:
            return 0

    def append(self, event: bytes) -> None:
        """
        Keep one event: it is on the disk when this returns.

        Raises:
            BudgetUnavailable: the file is full or cannot be written, and nothing of the event is kept.
        """
        try:
            with self._locked() as file:
                size = file.seek(0, os.SEEK_END)
                # A torn line must not swallow this one.
                line = (b"" if _is_whole(file, size) else b"\n") + event + b"\n"
                if size + len(line) > self._limit_bytes:
                    raise BudgetUnavailable(
                        f"the service is away and the spool {self.path} is full ({size} of {self._limit_bytes} bytes); "
                        "this event was not kept"
                    )
                _write(file, line, size)
                if not size:
                    _sync_folder(self.path)
        except OSError as error:
            raise BudgetUnavailable(
                f"the service is away and the event could not be kept in {self.path}: {error}"
            ) from error

    @contextmanager
    def resending(self, *, wait: bool) -> Iterator[bool]:
        """Be the only one who re-sends, after all others if *wait*; else False where somebody is at it."""
        with self._beside(".lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True

    def read(self, offset: int) -> Batch:
        """As many lines from *offset* on as the gateway takes as one list; none are left where there are none."""
        events: list[bytes] = []
        broken: list[Refused] = []
        size = 0
        with self._locked(), self.path.open("rb") as file:
            file.seek(offset)
            while len(events) + len(broken) < LIST_EVENTS and (line := file.readline()):
                size += len(line)
                if size > _LIST_BYTES and (events or broken):
                    break
                offset += len(line)
                if reason := _fault(line):
                    broken.append(Refused(line.rstrip(b"\n"), reason))
                elif line.strip():
                    events.append(line.rstrip(b"\n"))
        return Batch(events, broken, offset)

    def drop(self, end: int) -> None:
        """Forget the first *end* bytes; what was appended meanwhile stays."""
        if not end:
            return
        with self._locked() as file:
            size = os.fstat(file.fileno()).st_size
            if end >= size:
                file.truncate(0)
                os.fsync(file.fileno())
                return
            with self._beside(".new", "w") as rest, self.path.open("rb") as old:
                old.seek(end)
                while part := old.read(_COPY_BYTES):
                    _write_all(rest, part)
                os.fsync(rest.fileno())
            # Whoever waits for the old file's lock sees that the path has another one.
            os.replace(f"{self.path}.new", self.path)
            _sync_folder(self.path)

    def reject(self, refused: Iterable[Refused], at: str) -> None:
        """Keep in `PATH.rejected` what is never sent again, so that it blocks nothing and people can look at it."""
        with self._beside(".rejected", "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            lines = [
                json.dumps(
                    {"rejected_at": at, "reason": one.reason, "line": one.line.decode(errors="backslashreplace")}
                )
                for one in refused
            ]
            _write(file, ("\n".join(lines) + "\n").encode(), file.seek(0, os.SEEK_END))

    @property
    def rejected(self) -> Path:
        """Where refused events are kept."""
        return Path(f"{self.path}.rejected")

    @contextmanager
    def _locked(self) -> Iterator[FileIO]:
        """The file, whose changes are ours alone meanwhile."""
        while True:
            with _open(self.path, "a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if _is_at(file, self.path):
                    yield file
                    return

    def _beside(self, suffix: str, mode: str = "a+") -> FileIO:
        return _open(Path(f"{self.path}{suffix}"), mode)


def _open(path: Path, mode: str) -> FileIO:
    # Unbuffered, so that nothing is left to be written by a close after an error. For our user alone: events may hold
    # names and texts.
    return FileIO(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def _is_at(file: FileIO, path: Path) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    ours = os.fstat(file.fileno())
    return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)


def _is_whole(file: FileIO, size: int) -> bool:
    return size == 0 or os.pread(file.fileno(), 1, size - 1) == b"\n"


def _write(file: FileIO, data: bytes, size: int) -> None:
    """Append to a file of *size* bytes and have it on the disk, or leave it as it was."""
    try:
        _write_all(file, data)
        os.fsync(file.fileno())
    except OSError:
        file.truncate(size)
        raise


def _write_all(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _fault(line: bytes) -> str:
    """Why a line is no event; empty for one, and for an empty line."""
    if not line.strip():
        return ""
    try:
        event = json.loads(line)
    except ValueError:
        return "is not JSON: a crash has torn it while it was written"
    return "" if isinstance(event, dict) and event.get("event_id") else "is not an event with an event_id"
