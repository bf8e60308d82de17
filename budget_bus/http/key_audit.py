"""Changes of the keys file, audited by the gateway that takes notice of them: the command has no database."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from typing import Any

import structlog

from budget_bus.http.parts import Parts
from budget_bus.keys.file import Key
from budget_bus.store.changes import Noted, note
from budget_bus.store.pool import retryable

log = structlog.get_logger()

_LOOK_S = 1.0
_ACTOR = "keys file"
_KEYS = uuid.UUID("7c0f2f5e-0b0a-4a6e-9f1c-3d5b8a64e0d1")  # the namespace of ids that are the same in every gateway


async def keep_auditing(parts: Parts, stopping: asyncio.Event) -> None:
    """
    Note each key that has come since, or is gone, until *stopping*. Those that are there at the start are noted too,
    and none twice: ids are made of the key's hash, so that every gateway on a file says the same.

    Who changed the file cannot be known here. A key that was revoked while no gateway ran is not noticed.
    """
    noted: dict[str, Key] = {}
    while not stopping.is_set() and parts.keys.asked_for:
        now = {key.sha256: key for key in parts.keys.look()}
        try:
            if now.keys() != noted.keys():
                await _note(parts, [noted[it] for it in noted.keys() - now.keys()], gone=True)
                await _note(parts, [now[it] for it in now.keys() - noted.keys()], gone=False)
                noted = now
        except Exception as error:
            if not retryable(error):
                raise
            log.warning("changes of keys are audited later", reason=f"{type(error).__name__}: {error}")
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _LOOK_S)


async def _note(parts: Parts, keys: Collection[Key], *, gone: bool) -> None:
    async with parts.pool.acquire() as connection, connection.transaction():
        for key in keys:
            change_id = uuid.uuid5(_KEYS, f"{'revoked' if gone else 'added'}:{key.sha256}")
            before, after = (_shown(key), None) if gone else (None, _shown(key))
            change = Noted("key", before, after, key.name)
            await note(connection, change, actor=_ACTOR, at=parts.now(), change_id=change_id)


def _shown(key: Key) -> dict[str, Any]:
    """Never its hash: the audit feed is for everybody who may read."""
    created_at: datetime = key.created_at
    return {
        "name": key.name,
        "roles": [role.value for role in key.roles],
        "components": None if key.components is None else list(key.components),
        "created_at": created_at.isoformat().replace("+00:00", "Z"),
    }
