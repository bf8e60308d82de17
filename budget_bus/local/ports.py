"""Which ports are free, and which one a part had last time."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from pathlib import Path

# Below Linux's ephemeral range (32768 and up). A port inside it can be taken by an outgoing connection while its
# server restarts, even by a client that connects to itself while it retries.
_RANGE = range(20_000, 32_000)


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on *port* of *host* at this moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Servers set this too, so a port whose old connections linger in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # Binding beside a listener succeeds on some systems; listening does not.
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(*, preferred: int | None = None, avoid: Collection[int] = ()) -> int:
    """*preferred* when it is free, else another free port of 127.0.0.1 that is not in *avoid*."""
    if preferred is not None and preferred not in avoid and is_free(preferred):
        return preferred
    for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
        if port not in avoid and is_free(port):
            return port
    raise OSError(f"no free port between {_RANGE.start} and {_RANGE.stop - 1}")


def remembered_port(file: Path, *, avoid: Collection[int] = ()) -> int:
    """The port that *file* remembers, when it is still free; else a new one, remembered from now on."""
    try:
        preferred: int | None = int(file.read_text())
    except (OSError, ValueError):
        preferred = None
    port = free_port(preferred=preferred, avoid=avoid)
    if port != preferred:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{port}\n")
    return port
