"""Usage that could not be sent, kept in a file until it can: what an outage would else lose."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from budget_bus.errors import BudgetUnavailable

Event = dict[str, Any]

LIMIT_BYTES = 64 * 1024 * 1024
AT_ONCE = 1_000
_AT_ONCE_BYTES = 2 * 1024 * 1024  # a body has at most 4 MiB
_REST_S = 5.0

log = logging.getLogger(__name__)


class Spool:
    """
    A file of events, one JSON object per line, that threads and processes may share.

    New events go to *path*. To be sent they are moved to `PATH.sending`, which is removed once the service has all of
    it; after a crash in between it is sent again, and the events' ids let them be counted once. What the service
    refuses goes to `PATH.rejected` with the reason, so that it holds up nothing.
    """

    def __init__(self, path: str | os.PathLike[str], limit_bytes: int = LIMIT_BYTES) -> None:
        self.path = Path(path)
        self._sending = Path(f"{path}.sending")
        self._rejected = Path(f"{path}.rejected")
        self._lock = Path(f"{path}.lock")
        self._limit_bytes = limit_bytes
        self._away_until_s = 0.0

    @property
    def resting(self) -> bool:
        """Whether the service was away a moment ago, so that asking it would only hold up the caller."""
        return time.monotonic() < self._away_until_s

    @property
    def waiting(self) -> bool:
        """Whether there is anything to be sent."""
        return any(path.exists() and path.stat().st_size for path in (self._sending, self.path))

    def append(self, event: Mapping[str, Any], why: BudgetUnavailable | None) -> None:
        """
        Keep an event, on the disk when this returns. *why* is that the service is away, if it was asked.

        Raises:
            BudgetUnavailable: the file has its full size, or cannot be written.
        """
        if why is not None:
            self._away_until_s = time.monotonic() + _REST_S
        line = json.dumps(event, default=str).encode() + b"\n"
        try:
            with self._locked(), self.path.open("a+b") as file:
                size = file.seek(0, os.SEEK_END)
                if size + len(line) > self._limit_bytes:
                    raise BudgetUnavailable(f"the spool {self.path} is full, it has {size} bytes") from why
                file.write(_ending(file, size) + line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise BudgetUnavailable(f"the spool {self.path} cannot be written: {error.strerror}") from why

    @contextmanager
    def sending(self) -> Iterator[Iterator[list[Event]] | None]:
        """
        The events in the order they came, in lists that fit a request; they are forgotten when the block ends without
        an error. None if somebody else is sending them.
        """
        with self._sender() as alone:
            if not alone:
                yield None
                return
            if not self._take_up():
                yield iter(())
                return
            yield _batches(self._sending)
            self._sending.unlink()

    def reject(self, event: Mapping[str, Any], reason: str) -> None:
        """Put an event aside that the service refuses."""
        log.error("an event of the spool was refused, and is in %s: %s", self._rejected, reason)
        with self._rejected.open("ab") as file:
            file.write(json.dumps({"reason": reason, "event": event}, default=str).encode() + b"\n")

    def _take_up(self) -> bool:
        with self._locked():
            if not self._sending.exists() and self.path.exists() and self.path.stat().st_size:
                self.path.rename(self._sending)
        return self._sending.exists()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _sender(self) -> Iterator[bool]:
        with Path(f"{self._lock}.sender").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def _ending(file: IO[bytes], size: int) -> bytes:
    """What ends a line that a crash has torn, so that it spoils no other."""
    if not size:
        return b""
    file.seek(size - 1)
    return b"" if file.read(1) == b"\n" else b"\n"


def _batches(path: Path) -> Iterator[list[Event]]:
    batch: list[Event] = []
    size = 0
    with path.open("rb") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                log.error("a torn line of %s is left out: %r", path, line[:200])
                continue
            if batch and (len(batch) == AT_ONCE or size + len(line) > _AT_ONCE_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(event)
            size += len(line)
    if batch:
        yield batch
