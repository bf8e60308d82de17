"""What goes between a client and the gateway, and where the gateway is; nothing here is sent or received."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    import httpx2

    from budget_bus.client.spool import Spool

# ruff: noqa: PLC0415 - importing the client must not pay for what only a call needs.

T = TypeVar("T")
OnUnavailable = Literal["raise", "allow", "deny"]
Info = dict[str, Any]

HEADERS = {"Content-Type": "application/json"}
SPOOL_LIMIT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request to make, after a pause if it is a repeat; `timeout_s` is how long each wait of it may last."""

    method: str
    path: str
    content: bytes
    timeout_s: float = math.inf
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Local:
    """Work on this machine that may take a while (a disk, a lock, a long text), for where it holds up nobody else."""

    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Response:
    """
    What came back; `failure` says why nothing did. `retry_after_s` is what the answer says of when to come again.
    """

    status: int = 0
    body: Any = None
    failure: str = ""
    retry_after_s: float = 0.0


# What a call does, step by step: a Request is answered by its Response, a Local by what its work returned.
Steps = Generator[Request | Local, Any, T]


@dataclass(frozen=True, slots=True)
class Options:
    """
    Where the gateway is and how patient to be with it. `timeout_s` is for one call with its repeats; with a `spool`,
    usage is kept there while the service is away.
    """

    base_url: str
    timeout_s: float
    on_unavailable: OnUnavailable
    headers: Mapping[str, str]
    spool: Spool | None = None


def options(
    *,
    host: str | None = None,
    port: int | None = None,
    api_key: str | None = None,
    timeout: float = 5.0,
    on_unavailable: OnUnavailable = "raise",
    spool: str | os.PathLike[str] | None = None,
    spool_limit_bytes: int = SPOOL_LIMIT_BYTES,
) -> Options:
    """
    Read the arguments of a client; what is not given is BUDGET_HOST, BUDGET_PORT and BUDGET_API_KEY, as for the
    commands: from the environment, then from `.env.budget`.

    Raises:
        ValueError: *on_unavailable* or the key is none; the text does not show the key.
        OSError: the spool cannot be written.
    """
    if on_unavailable not in ("raise", "allow", "deny"):
        raise ValueError(f"on_unavailable is 'raise', 'allow' or 'deny', not {on_unavailable!r}")
    said = _said()
    host = host or said.get("BUDGET_HOST") or "127.0.0.1"
    if host in ("0.0.0.0", "::"):  # noqa: S104  # where the gateway listens is not where it is called
        host = "127.0.0.1"
    base_url = f"http://{f'[{host}]' if ':' in host else host}:{port or said.get('BUDGET_PORT') or 8013}"
    key = (api_key or said.get("BUDGET_API_KEY") or "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("api_key (or BUDGET_API_KEY) is not a key as `budget keys add` prints it")
    headers = {**HEADERS, "Authorization": f"Bearer {key}"} if key else HEADERS
    return Options(base_url, timeout, on_unavailable, headers, _opened(spool, spool_limit_bytes))


def to_json(value: Any) -> bytes:
    """*value* as JSON; ids, times and decimals may be given as such."""
    from pydantic_core import to_json

    return to_json(value)


def failed(error: httpx2.TransportError, base_url: str) -> Response:
    """That nothing came back."""
    return Response(failure=f"no answer from {base_url}: {error!r}")


def read(response: httpx2.Response) -> Response:
    """The parts of a response that the steps look at."""
    try:
        body = response.json() if response.content else None
    except ValueError:
        body = None
    return Response(response.status_code, body, retry_after_s=_seconds(response.headers.get("Retry-After", "")))


def _said() -> Mapping[str, str | None]:
    path = Path(".env.budget")
    if not path.is_file():
        return os.environ
    from dotenv import dotenv_values

    return {**dotenv_values(path), **os.environ}


def _opened(path: str | os.PathLike[str] | None, limit_bytes: int) -> Spool | None:
    if path is None:
        return None
    from budget_bus.client.spool import Spool

    return Spool(Path(path), limit_bytes)


def _seconds(retry_after: str) -> float:
    """Seconds of a Retry-After (RFC 9110, 10.2.3), a number or a date; 0 where it says nothing."""
    if retry_after.isdecimal():
        return float(retry_after)
    if not retry_after:
        return 0.0
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
