"""The keys file: JSON with names, roles and hashes, never a key; changed as a whole, by one at a time."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from budget_bus.errors import ConfigError, Conflict, FieldError, NotFound, Rejected
from budget_bus.events.fields import Name
from budget_bus.keys.key import KeyRole, digest_of

_MAX_SHOWN = 3


def _key_name(text: str) -> str:
    # It stands in the audit feed and is typed in a shell.
    if not re.fullmatch(r"[A-Za-z0-9._@][A-Za-z0-9._@-]{0,99}", text):
        raise ValueError("must have 1 to 100 letters, digits, '.', '_', '@' or '-', such as rhetor-2")
    return text


KeyName = Annotated[str, AfterValidator(_key_name)]


class Key(BaseModel):
    """One key. `components` None is any; `sha256` is the key's `digest_of`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: KeyName
    roles: Annotated[tuple[KeyRole, ...], Field(min_length=1)]
    components: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    created_at: AwareDatetime
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$"), Field(repr=False)]

    @model_validator(mode="after")
    def _bound_admin(self) -> Self:
        if self.components is not None and KeyRole.ADMIN in self.roles:
            raise ValueError("a key with the role admin cannot be bound to components, since it may change everything")
        return self


class _Content(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    keys: list[Key]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [key.name for key in self.keys]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the name {', '.join(twice)} is there more than once")
        if len({key.sha256 for key in self.keys}) < len(self.keys):
            raise ValueError("two names have the same sha256; each needs a key of its own")
        return self


def make_key(text: str, *, name: str, roles: Iterable[KeyRole], components: Iterable[str], created_at: datetime) -> Key:
    """
    What is kept of the key *text*; without *components* it is bound to none of them.

    Raises:
        Rejected: names the wrong fields.
    """
    try:
        return Key(
            name=name,
            roles=tuple(dict.fromkeys(roles)),
            components=tuple(dict.fromkeys(components)) or None,
            created_at=created_at,
            sha256=digest_of(text),
        )
    except ValidationError as error:
        raise Rejected("not a key that can be made", _wrong_fields(error)) from None


def read_keys(path: Path) -> list[Key]:
    """
    The keys of a file, in the order in which they were added.

    Raises:
        ConfigError: it is not there, cannot be read, or is malformed; the text names the place and what to do.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"there is no keys file {path}; `budget keys add NAME --role ROLE` makes it") from None
    except OSError as error:
        raise ConfigError(f"cannot read the keys file {path}: {error.strerror}") from None
    try:
        return _Content.model_validate_json(raw).keys
    except ValidationError as error:
        wrong = _wrong_fields(error)
        said = "; ".join(map(str, wrong[:_MAX_SHOWN]))
        more = f" (and {len(wrong) - _MAX_SHOWN} more)" if len(wrong) > _MAX_SHOWN else ""
        raise ConfigError(
            f"the keys file {path} is malformed: {said}{more}; mend it there, or remove the file and make all keys "
            "anew with `budget keys add`"
        ) from None


def add_key(path: Path, key: Key) -> None:
    """
    Add *key* to a file, which is made if it is not there.

    Raises:
        Conflict: the name is taken. ConfigError: as `read_keys`, or it cannot be written. Nothing was changed then.
    """
    with _locked(path):
        keys = read_keys(path) if path.exists() else []
        if any(one.name == key.name for one in keys):
            raise Conflict(f"there is a key {key.name!r} already; `budget keys revoke {key.name}` ends it")
        _write(path, [*keys, key])


def revoke_key(path: Path, name: str) -> None:
    """
    Take a key out of a file.

    Raises:
        NotFound: there is none of that name. ConfigError: as `read_keys`, or it cannot be written. Nothing was changed.
    """
    with _locked(path):
        keys = read_keys(path)
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            raise NotFound(f"there is no key {name!r} in {path}; `budget keys list` shows those there are")
        _write(path, left)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # Not the file itself: it is replaced, and two could then hold the locks of two files.
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot lock the keys file {path} with {path}.lock: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(path: Path, keys: Sequence[Key]) -> None:
    """In one step, so that a gateway never reads half of it; a link is followed, not replaced."""
    target = path.resolve()
    scratch = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            _keep_owner(target, file.fileno())
            file.write(_Content(keys=list(keys)).model_dump_json(indent=2, exclude_none=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(target)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise ConfigError(f"cannot write the keys file {path}: {error.strerror}; nothing was changed") from None


def _keep_owner(target: Path, file: int) -> None:
    # Else root's `revoke` would hide the file from the gateway's own account, and the key would stay in force.
    with suppress(FileNotFoundError):
        old, new = target.stat(), os.fstat(file)
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            os.fchown(file, old.st_uid, old.st_gid)


def _wrong_fields(error: ValidationError) -> list[FieldError]:
    return [
        FieldError(".".join(map(str, item["loc"])), str(item.get("ctx", {}).get("error") or item["msg"]))
        for item in error.errors(include_url=False, include_input=False)
    ]
