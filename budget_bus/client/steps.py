"""
What both clients do, without I/O: generators that yield a request and are sent its response.

A repeat of a request carries the same ids, so that it is decided and counted once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from budget_bus.client.spool import Event, Spool
from budget_bus.client.streaming import StreamedUsage
from budget_bus.errors import (
    BudgetError,
    BudgetExceeded,
    BudgetUnavailable,
    Conflict,
    FieldError,
    Forbidden,
    NotFound,
    Rejected,
    Unauthorized,
)
from budget_bus.events.ids import new_id

if TYPE_CHECKING:
    import httpx2

# ruff: noqa: PLC0415 - whoever imports a client must not wait for what only its requests need.

T = TypeVar("T")
OnUnavailable = Literal["raise", "allow", "deny"]
Info = dict[str, Any]

_PAUSES_S = (0.05, 0.2, 0.5)
_LONGEST_PAUSE_S = 2.0
_SETTLING_S = 6.0  # how much longer than others `?wait=true` may take: the gateway waits 5 s for the settler
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request to make, after a pause if it is a repeat."""

    method: str
    path: str
    body: Any = None
    longer_s: float = 0.0
    pause_s: float = 0.0

    @property
    def content(self) -> bytes:
        """The body as JSON; ids, times and decimals may be given as such."""
        return json.dumps(self.body, default=_plain, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Response:
    """What came back; `failure` says why nothing did, `late` that it was waited for as long as the caller allows."""

    status: int = 0
    body: Any = None
    failure: str = ""
    late: bool = False
    retry_after_s: float = 0.0


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


Steps = Generator[Request, Response, T]


@dataclass(frozen=True, slots=True)
class Options:
    """Where the gateway is and how patient to be with it. `timeout` is in seconds, for one request."""

    base_url: str
    timeout: float
    on_unavailable: OnUnavailable
    headers: Mapping[str, str]

    def timeout_of(self, request: Request) -> float:
        return self.timeout + request.longer_s


def options(
    host: str | None, port: int | None, api_key: str | None, timeout: float, on_unavailable: OnUnavailable
) -> Options:
    """
    Read the arguments of a client; what is not given is BUDGET_HOST, BUDGET_PORT and BUDGET_API_KEY, as for the
    commands: from the environment, then from `.env.budget`.

    Raises:
        ValueError: *on_unavailable* or the key is none; the text does not show the key.
    """
    if on_unavailable not in ("raise", "allow", "deny"):
        raise ValueError(f"on_unavailable is 'raise', 'allow' or 'deny', not {on_unavailable!r}")
    said = {**_from_file(Path(".env.budget")), **os.environ}
    host = host or said.get("BUDGET_HOST") or "127.0.0.1"
    if host in ("0.0.0.0", "::"):  # noqa: S104  # where the gateway listens is not where it is called
        host = "127.0.0.1"
    base_url = f"http://{f'[{host}]' if ':' in host else host}:{port or said.get('BUDGET_PORT') or 8013}"
    key = (api_key or said.get("BUDGET_API_KEY") or "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("api_key (or BUDGET_API_KEY) is not a key as `budget keys add` prints it")
    headers = {**HEADERS, "Authorization": f"Bearer {key}"} if key else HEADERS
    return Options(base_url, timeout, on_unavailable, headers)


def _from_file(path: Path) -> Mapping[str, str | None]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    return dotenv_values(path)


def failed(error: httpx2.TransportError, base_url: str) -> Response:
    """That nothing came back."""
    import httpx2

    return Response(failure=f"no answer from {base_url}: {error!r}", late=isinstance(error, httpx2.TimeoutException))


def read(response: httpx2.Response) -> Response:
    """The parts of a response that the steps look at."""
    after = response.headers.get("retry-after", "")
    retry_after_s = float(after) if after.isdecimal() else 0.0
    try:
        body = response.json() if response.content else None
    except ValueError:
        body = None
    return Response(response.status_code, body, retry_after_s=retry_after_s)


def check(on_unavailable: OnUnavailable, fields: Mapping[str, Any]) -> Steps[tuple[bool, Info]]:
    """
    Ask, and give `(allowed, info)`.

    Raises:
        Rejected, Conflict: the question itself is wrong.
        BudgetUnavailable: no answer, and *on_unavailable* is "raise"; it carries the `request_id`.
    """
    question = {"request_id": str(new_id()), **_given(fields)}
    request_id = str(question["request_id"])
    try:
        response = yield from _answered(Request("POST", "/api/check", question))
    except BudgetUnavailable as error:
        error.request_id = request_id
        if on_unavailable == "raise":
            raise
        allowed = on_unavailable == "allow"
        action = "allow" if allowed else "deny"
        reason = f"the budget service is unavailable: {error}"
        return allowed, {"request_id": request_id, "allowed": allowed, "action": action, "reason": reason, "hold": None}
    info: Info = response.body
    return bool(info["allowed"]), info


def record(fields: Mapping[str, Any], spool: Spool | None = None) -> Steps[Info]:
    """
    Record one call and give what the ledger says of it; `status` is "pending" and the costs None while the settler
    is behind. With a *spool* a call that cannot be sent is kept there, and `status` is "spooled"; what it has kept is
    sent after the next call that can.

    Raises:
        Rejected: names the wrong fields; nothing was recorded.
        Conflict: the `event_id` was recorded before with a different content.
        BudgetUnavailable: no answer; it may have been recorded, so repeat it with the same `event_id`. With a spool:
            nor can it be kept.
    """
    event = {"event_id": str(new_id()), **_given(fields)}
    if spool is None:
        return (yield from _record(event))
    # What is sent again must be what was sent at first, or it would be in conflict with it; and it was used now.
    event.setdefault("occurred_at", datetime.now(UTC).isoformat())
    if spool.resting:
        spool.append(event, None)
        return _recorded(event, {"status": "spooled"})
    try:
        recorded = yield from _record(event)
    except BudgetUnavailable as error:
        spool.append(event, error)
        return _recorded(event, {"status": "spooled"})
    # This call is recorded, whatever becomes of the others.
    with suppress(BudgetError):
        yield from flush(spool)
    return recorded


def flush(spool: Spool) -> Steps[int]:
    """
    Send what a spool has kept; how many events the service took. What it refuses is put aside.

    Raises:
        BudgetUnavailable: no answer. Unauthorized, Forbidden: the key. What was not taken stays in the spool.
    """
    sent = 0
    while spool.waiting:
        with spool.sending() as batches:
            if batches is None:
                return sent
            for events in batches:
                sent += yield from _sent(spool, events)
    return sent


def _sent(spool: Spool, events: list[Event]) -> Steps[int]:
    try:
        yield from _answered(Request("POST", "/api/record", events))
    except (Unauthorized, Forbidden):
        raise
    except Rejected as error:
        if len(events) == 1:
            spool.reject(events[0], str(error))
            return 0
    else:
        return len(events)
    # A list is taken whole or not at all, so those that are right are sent without those that are not.
    sent = 0
    for event in events:
        sent += yield from _sent(spool, [event])
    return sent


def _record(event: Info) -> Steps[Info]:
    response = yield from _answered(Request("POST", "/api/record?wait=true", event, longer_s=_SETTLING_S))
    if response.status == 202:
        return _recorded(event, {"status": "pending"})
    (result,) = response.body["results"]
    if result["status"] == "conflict":
        raise Conflict(f"event_id {event['event_id']} was recorded before with a different content")
    if result["status"] == "rejected":
        raise Rejected(f"event {event['event_id']} was refused; `budget dlq list` says why")
    return _recorded(event, result)


def record_completion(
    fields: Mapping[str, Any], metadata: Mapping[str, Any] | None, spool: Spool | None = None
) -> Steps[Info]:
    """As `record`, for texts whose tokens are to be counted; *metadata* goes into the tags, as text."""
    tags = {**(fields.get("tags") or {}), **{str(name): str(value) for name, value in (metadata or {}).items()}}
    return record({**fields, "tags": tags or None}, spool)


def release(request_id: str, reason: str | None) -> Steps[None]:
    """
    Give a hold back.

    Raises:
        NotFound: there is no such hold.
        Conflict: it is closed already.
    """
    yield from _answered(Request("POST", f"/api/holds/{request_id}/release", _given({"reason": reason})))


# What usage says of a call that its check has said already.
_SHARED = ("component", "provider", "model", "service_tier", "task_type", "context_id", "user", "tags")


class GuardState:
    """What a guard remembers between its check and its end."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = {"request_id": str(new_id()), **_given(fields)}
        self.event_id = str(new_id())
        self.info: Info = {}
        self.streamed: StreamedUsage | None = None
        self._closed = False

    def enter(self, on_unavailable: OnUnavailable) -> Steps[None]:
        """Check; raises BudgetExceeded if it is denied."""
        allowed, self.info = yield from check(on_unavailable, self.fields)
        if not allowed:
            raise BudgetExceeded(str(self.info.get("reason") or "denied"), self.info)

    def settle(self, usage: Mapping[str, Any], spool: Spool | None = None) -> Steps[Info]:
        """Record the call; after BudgetUnavailable it may be repeated, the event keeps its id."""
        self._must_be_open()
        said = {name: self.fields[name] for name in _SHARED if name in self.fields}
        event = {"event_id": self.event_id, **said, **usage, "request_id": self.fields["request_id"]}
        recorded = yield from record(event, spool)
        self._closed = True
        return recorded

    def settle_stream(self, spool: Spool | None = None) -> Steps[Info | None]:
        """
        Record what the stream that was begun says, or what can be estimated of it; None if there was none, or it is
        recorded already, or nothing can be said of it: its hold stays then until it expires.
        """
        streamed, self.streamed = self.streamed, None
        if streamed is None or self._closed:
            return None
        usage = streamed.fields(str(self.fields["provider"]), str(self.fields["model"]), self.fields)
        return None if usage is None else (yield from self.settle(usage, spool))

    def void(self, reason: str | None) -> Steps[None]:
        """Give the hold back, if one was placed."""
        self._must_be_open()
        if self.info.get("hold"):
            yield from release(str(self.fields["request_id"]), reason)
        self._closed = True

    def _must_be_open(self) -> None:
        if self._closed:
            raise RuntimeError("this call was settled or given back already")


def _answered(request: Request) -> Steps[Response]:
    """The response to a request that worked, repeated while the service is away."""
    for tried, pause_s in enumerate((*_PAUSES_S, None)):
        response = yield request
        away = bool(response.failure) or response.status in (429, 502, 503)
        # An answer that came too late for the gateway is remembered: asking once more gets it.
        again = (away and not response.late) or (response.status == 504 and tried == 0)
        if not again or pause_s is None:
            break
        request = replace(request, pause_s=max(pause_s, min(response.retry_after_s, _LONGEST_PAUSE_S)))
    if response.failure:
        raise BudgetUnavailable(response.failure)
    if response.status < 400:
        return response
    raise _error(response)


def _error(response: Response) -> Exception:
    problem = response.body if isinstance(response.body, dict) else {}
    detail = str(problem.get("detail") or f"the gateway answered {response.status}")
    if response.status >= 500 or response.status in (408, 429):
        return BudgetUnavailable(detail, request_id=problem.get("request_id"))
    errors = [FieldError(str(e.get("field", "")), str(e.get("message", ""))) for e in problem.get("errors") or ()]
    kinds: dict[int, type[Rejected]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict}
    return kinds.get(response.status, Rejected)(detail, errors)


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _recorded(event: Mapping[str, Any], result: Mapping[str, Any]) -> Info:
    """The platform's old keys, and ours."""
    occurred_at = event.get("occurred_at") or result.get("occurred_at")
    return {
        "record_id": str(event["event_id"]),
        "event_id": str(event["event_id"]),
        "provider": event.get("provider"),
        "model": event.get("model"),
        "component": event.get("component"),
        "task_type": event.get("task_type"),
        "context_id": event.get("context_id"),
        "timestamp": occurred_at if occurred_at is None or isinstance(occurred_at, str) else occurred_at.isoformat(),
        "input_tokens": result.get("input_tokens", event.get("input_tokens")),
        "output_tokens": result.get("output_tokens", event.get("output_tokens")),
        "total_tokens": result.get("total_tokens"),
        "input_cost": result.get("input_cost"),
        "output_cost": result.get("output_cost"),
        "total_cost": result.get("cost"),
        "currency": result.get("currency"),
        "price_status": result.get("price_status"),
        "status": result["status"],
        "spooled": result["status"] == "spooled",
    }
