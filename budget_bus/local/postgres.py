"""PostgreSQL on this machine: made once, started as our own child, reached over TCP on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from budget_bus.errors import BudgetUnavailable
from budget_bus.local import database_dir
from budget_bus.local.child import Command
from budget_bus.local.database_dir import DatabaseDir
from budget_bus.local.ports import remembered_port

USER = DATABASE = "budget"
_STALE_PATIENCE_S = 30


@dataclass(frozen=True, slots=True)
class Postgres:
    """
    One PostgreSQL server. Its password is in `<data_dir>/postgres.password`: other users share the loopback.

    *durable* False turns fsync off: fine when the machine stays up, so for tests; a killed server still loses nothing.
    """

    where: DatabaseDir
    password: str
    port: int
    durable: bool = True
    max_connections: int = 100
    name: str = "postgresql"

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    async def prepare(self) -> None:
        """Make the cluster when there is none, and wait until nothing of a server that was killed is left."""
        if not self.where.path.exists():
            await asyncio.to_thread(self._initialise)
        await self._wait_for_old_server()

    def command(self) -> Command:
        options = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": str(self.max_connections),
            "shared_buffers": "128MB",
            "max_wal_size": "512MB",
            "fsync": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
            "synchronous_commit": "on",
            "log_timezone": "UTC",
            "timezone": "UTC",
            "dynamic_shared_memory_type": "posix" if os.access("/dev/shm", os.W_OK) else "mmap",  # noqa: S108 - a device
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return Command(
            (str(self.where.bin_dir / "postgres"), "-D", str(self.where.path), *settings),
            account=self.where.account,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            death_signal=signal.SIGQUIT,  # "immediate": ends its backends too, which SIGKILL would leave to notice
            cwd=Path("/"),
        )

    async def ready(self) -> None:
        """Return once it answers queries and the database exists."""
        while True:
            try:
                connection = await asyncpg.connect(self.url_of("postgres"), timeout=5)
                break
            except asyncpg.InvalidPasswordError:
                raise BudgetUnavailable(
                    f"PostgreSQL on port {self.port} refuses our password; is it another server?"
                ) from None
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await asyncio.sleep(0.03)
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
        finally:
            await connection.close()

    def version(self) -> str:
        """What the server's program calls itself, as in `18.6`."""
        result = subprocess.run(
            [self.where.bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        return result.stdout.split(")", 1)[-1].split()[0]

    def _initialise(self) -> None:
        scratch = self.where.path.with_name(f"{self.where.path.name}.new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        password_file = scratch.with_name("password.new")
        password_file.write_text(self.password)
        password_file.chmod(0o600)
        account = self.where.account
        try:
            if account:
                os.chown(scratch, account.uid, account.gid)
                os.chown(password_file, account.uid, account.gid)
            arguments: list[str | Path] = [
                self.where.bin_dir / "initdb",
                "-D",
                scratch,
                "-U",
                USER,
                "--auth=scram-sha-256",
            ]
            arguments += [f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C", "--no-instructions"]
            result = subprocess.run(
                arguments if self.durable else [*arguments, "--no-sync"],
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
            )
            if result.returncode != 0:
                raise BudgetUnavailable(f"cannot create the database in {self.where.path}: {result.stderr.strip()}")
        finally:
            password_file.unlink()
        # A half-made cluster is never started: it gets its name when it is whole.
        scratch.rename(self.where.path)

    async def _wait_for_old_server(self) -> None:
        """
        Return when nothing of a server that was killed is left, its `postmaster.pid` included.

        The new server would refuse to start while a backend still holds the shared memory, and also when the number
        in the file belongs to a process that was not reaped yet, or by now to a stranger (often so after a reboot).
        """
        deadline = asyncio.get_running_loop().time() + _STALE_PATIENCE_S
        while (old := _process_in(self.where.path)) is not None:
            if asyncio.get_running_loop().time() > deadline:
                raise BudgetUnavailable(
                    f"a PostgreSQL server (process {old}) still uses {self.where.path}; stop it and try again"
                )
            await asyncio.sleep(0.03)
        (self.where.path / "postmaster.pid").unlink(missing_ok=True)


def open_postgres(data_dir: Path, *, bin_dir: Path | None = None, durable: bool = True) -> Postgres:
    """The server of *data_dir*, with the password and the port it had before, or new ones. Starts nothing."""
    data_dir.mkdir(parents=True, exist_ok=True)
    where = database_dir.locate(data_dir.resolve(), bin_dir=bin_dir)
    return Postgres(where, _password(data_dir), remembered_port(data_dir / "postgres.port"), durable)


def _password(data_dir: Path) -> str:
    file = data_dir / "postgres.password"
    with contextlib.suppress(FileNotFoundError):
        return file.read_text().strip()
    password = secrets.token_urlsafe(24)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
        new.write(password)
    return password


def _process_in(cluster: Path) -> int | None:
    """A process of the server of *cluster*: all of them, and nobody else, have it as their working directory."""
    if Path("/proc/self/cwd").exists():
        for link in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):  # It ended meanwhile, or is another user's and so not ours.
                if link.readlink() == cluster:
                    return int(link.parent.name)
        return None
    try:
        pid = int((cluster / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, 0)
    except (OSError, ValueError, IndexError):
        return None
    return pid
