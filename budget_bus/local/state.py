"""What `budget up` runs and where, kept in `<data_dir>/run.json` for the other commands of this directory."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from budget_bus.errors import BudgetUnavailable


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A running `budget up`. *started* tells its process from a later one with the same number."""

    pid: int
    started: str
    url: str
    bootstrap_servers: str
    kafka_kind: str
    database_url: str
    metrics_ports: dict[str, int]
    ai_port: int = 45013


def running(data_dir: Path) -> RunningStack | None:
    """The stack that runs in *data_dir*, or None when there is none (any more) or it is not ready yet."""
    try:
        stack = RunningStack(**json.loads((data_dir / "run.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return stack if process_started(stack.pid) == stack.started else None


def write(data_dir: Path, stack: RunningStack) -> None:
    """Publish *stack* in one step; only the owner may read it, as the database's password is in it."""
    scratch = data_dir / f"run.json.{secrets.token_hex(4)}"
    with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(stack), file, indent=2)
        file.write("\n")
    scratch.replace(data_dir / "run.json")


def remove(data_dir: Path) -> None:
    (data_dir / "run.json").unlink(missing_ok=True)


def process_started(pid: int) -> str | None:
    """A mark of when process *pid* started, `unknown` where there is no /proc, None when it is gone."""
    with suppress(OSError, IndexError):
        # The second field, the command in brackets, may contain blanks; the start time is field 22 (man proc_pid_stat).
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """
    Hold *data_dir* for this process; the system lets go of it however the process ends.

    Raises:
        BudgetUnavailable: another `budget up` holds it; the text names its process and page.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            stack = running(data_dir)
            where = f" at {stack.url}" if stack else ""
            raise BudgetUnavailable(
                f"`budget up` runs already in {data_dir}{where} (process {file.read().strip() or 'unknown'}); "
                "stop it first, or set BUDGET_DATA_DIR to another directory and BUDGET_PORT to another port"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
