"""What a key is: random text, known again by its hash; and the roles that it can have."""

from __future__ import annotations

import hashlib
import secrets
from enum import StrEnum

PREFIX = "bdgt_"  # people, and programs that look for secrets in repositories, recognise one by it


class KeyRole(StrEnum):
    """What a key may do; `admin` includes the others."""

    RECORD = "record"
    CHECK = "check"
    READ = "read"
    ADMIN = "admin"


def new_key() -> str:
    """A key of 32 random bytes."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """
    The SHA-256 of *key* in hex, all that is kept of it.

    A plain hash is right here. Slow and salted ones are for passwords, which can be guessed; a key has 256 random bits,
    so trying keys against a stolen hash leads nowhere, and a slow hash would cost every request its time for nothing.
    """
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()
