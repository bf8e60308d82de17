"""Who asks, and may they: bearer keys, their roles, and the components that they are bound to."""

from __future__ import annotations

import hmac
import logging
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import HTTPConnection

from budget_bus.errors import ConfigError, Forbidden, Unauthorized
from budget_bus.keys.file import Key, read_keys
from budget_bus.keys.key import KeyRole, digest_of

_LOOK_AGAIN_S = 1.0
_MAX_NAMED = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. *actor* is who is written into the audit feed; *components* None is any."""

    actor: str
    roles: frozenset[KeyRole]
    components: frozenset[str] | None = None

    def need(self, role: KeyRole) -> None:
        """
        Raises:
            Forbidden: it has neither *role* nor admin; the text names the role.
        """
        if not self.roles & {role, KeyRole.ADMIN}:
            has = f"has only {', '.join(sorted(self.roles))}" if self.roles else "has no role"
            raise Forbidden(f"this needs a key with the role {role}; {self.actor} {has}")

    def must_act_for(self, components: Collection[str]) -> None:
        """
        Raises:
            Forbidden: it is bound, and not to all of *components*; the text names the others.
        """
        if self.components is None:
            return
        others = sorted(set(components) - self.components)
        if others:
            more = f" and {len(others) - _MAX_NAMED} more" if len(others) > _MAX_NAMED else ""
            named = ", ".join(map(repr, others[:_MAX_NAMED]))
            raise Forbidden(f"{self.actor} is bound to components, and not to {named}{more}")


class Keys:
    """
    The keys in force. The file is read again within a second after it has changed; while it cannot be, the keys that
    were read last stay in force. Without a file nobody is asked for a key.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Read the keys.

        Raises:
            ConfigError: as `read_keys`, or there are none.
        """
        self._path = path.absolute() if path else None
        self._clock = clock
        self._look_again_at = clock() + _LOOK_AGAIN_S
        self._complaint = ""
        self._by_digest: dict[str, Key] = {}
        self._mark: object = None
        if self._path is not None:
            self._mark = _mark(self._path)
            self._by_digest = _read(self._path)
            if not self._by_digest:
                raise ConfigError(f"the keys file {path} has no keys; make one with `budget keys add NAME --role ROLE`")

    @property
    def asked_for(self) -> bool:
        """Whether anybody needs a key."""
        return self._path is not None

    def look(self) -> tuple[Key, ...]:
        """The keys in force, read again if the file has changed."""
        self._refresh()
        return tuple(self._by_digest.values())

    def admit(self, connection: HTTPConnection, role: KeyRole | None) -> Principal:
        """
        Who sends this request, or wants this WebSocket, which needs *role*; what needs None is open to all.

        Raises:
            Unauthorized: it has no key, or none that is in force. Forbidden: its key has not the role.
        """
        if self._path is None:
            return Principal(_address(connection), frozenset(KeyRole))
        if role is None:
            return Principal(_address(connection), frozenset())
        scheme, _, text = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise Unauthorized("this needs a key: send the header `Authorization: Bearer KEY`")
        principal = self.principal_of(text.strip())
        principal.need(role)
        return principal

    def principal_of(self, text: str) -> Principal:
        """
        Whose key *text* is.

        What is looked up is a hash of what was sent, so how long it takes tells nothing about the keys.

        Raises:
            Unauthorized: nobody's, or it was revoked.
        """
        self._refresh()
        digest = digest_of(text)
        key = self._by_digest.get(digest)
        if key is None or not hmac.compare_digest(key.sha256, digest):
            raise Unauthorized("this key is not known here, or was revoked")
        return Principal(
            actor=f"key:{key.name}",
            roles=frozenset(key.roles),
            components=None if key.components is None else frozenset(key.components),
        )

    def _refresh(self) -> None:
        now = self._clock()
        if self._path is None or now < self._look_again_at:
            return
        self._look_again_at = now + _LOOK_AGAIN_S
        mark = _mark(self._path)
        if mark is not None and mark == self._mark:
            return
        try:
            self._by_digest = _read(self._path)
        except ConfigError as error:
            # The mark stays as it was, so that it is tried again also if nothing but our luck changes.
            if str(error) != self._complaint:
                log.error("the keys that were read before stay in force: %s", error)
            self._complaint = str(error)
        else:
            self._mark, self._complaint = mark, ""
            log.info("%d keys are in force, read again from %s", len(self._by_digest), self._path)


def _read(path: Path) -> dict[str, Key]:
    return {key.sha256: key for key in read_keys(path)}


def _mark(path: Path) -> object:
    """What is another after each change of the file; None if it cannot be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _address(connection: HTTPConnection) -> str:
    return f"http:{connection.client.host}" if connection.client else "http"
