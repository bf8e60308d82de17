"""
What both clients do, without I/O: generators that yield a request and are sent its response.

A repeat of a request carries the same ids, so that it is decided and counted once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from budget_bus.client.asking import Away, answered
from budget_bus.client.exchange import Info, Local, Options, Request, Steps, to_json
from budget_bus.errors import BudgetUnavailable, Conflict, Rejected
from budget_bus.events.ids import new_id

if TYPE_CHECKING:
    from budget_bus.client.spool import Spool

# ruff: noqa: PLC0415 - importing the client must not pay for what only a call needs.

_SETTLING_S = 6.0  # how much longer than others `?wait=true` may take: the gateway waits 5 s for the settler


def check(options: Options, fields: Mapping[str, Any]) -> Steps[tuple[bool, Info]]:
    """
    Ask, and give `(allowed, info)`.

    Raises:
        Rejected, Conflict: the question itself is wrong.
        BudgetUnavailable: no answer, and `on_unavailable` is "raise"; it carries the `request_id`.
    """
    question = {"request_id": str(new_id()), **given(fields)}
    request_id = str(question["request_id"])
    try:
        response = yield from answered(options, Request("POST", "/api/check", to_json(question)))
    except BudgetUnavailable as error:
        error.request_id = request_id
        if options.on_unavailable == "raise":
            raise
        allowed = options.on_unavailable == "allow"
        action = "allow" if allowed else "deny"
        reason = f"the budget service is unavailable: {error}"
        return allowed, {"request_id": request_id, "allowed": allowed, "action": action, "reason": reason, "hold": None}
    yield from _catch_up(options)
    info: Info = response.body
    return bool(info["allowed"]), info


def record(options: Options, fields: Mapping[str, Any], *, wait: bool = True) -> Steps[Info]:
    """
    Record one call and give what the ledger says of it. `status` is "pending" and the costs None while the settler is
    behind, or without *wait*; "spooled" where the event is kept for later because the service is away.

    Raises:
        Rejected: names the wrong fields; nothing was recorded.
        Conflict: the `event_id` was recorded before with a different content.
        BudgetUnavailable: no answer, and no spool or a full one; it may have been recorded, so repeat it with the same
            `event_id`.
    """
    event = {"event_id": str(new_id()), **given(fields)}
    if options.spool:
        # Before the first try: what is sent again must not differ from what may have arrived.
        event.setdefault("occurred_at", now())
    content = to_json(event)
    if options.spool and options.spool.rests:
        return (yield from _spooled(options.spool, event, content))
    path, longer_s = ("/api/record?wait=true", _SETTLING_S) if wait else ("/api/record", 0.0)
    try:
        response = yield from answered(options, Request("POST", path, content), longer_s=longer_s)
    except Away:
        if options.spool is None:
            raise
        options.spool.rest()
        return (yield from _spooled(options.spool, event, content))
    yield from _catch_up(options)
    if response.status == 202:
        return _recorded(event, {"status": "pending"})
    (result,) = response.body["results"]
    if result["status"] == "conflict":
        raise Conflict(f"event_id {event['event_id']} was recorded before with a different content")
    if result["status"] == "rejected":
        raise Rejected(f"event {event['event_id']} was refused; `budget dlq list` says why")
    return _recorded(event, result)


def record_completion(options: Options, fields: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> Steps[Info]:
    """As `record`, for texts whose tokens are to be counted; *metadata* goes into the tags, as text."""
    tags = {**(fields.get("tags") or {}), **{str(name): str(value) for name, value in (metadata or {}).items()}}
    return record(options, {**fields, "tags": tags or None})


def release(options: Options, request_id: str, reason: str | None) -> Steps[None]:
    """
    Give a hold back.

    Raises:
        NotFound: there is no such hold.
        Conflict: it is closed already.
    """
    content = to_json(given({"reason": reason}))
    yield from answered(options, Request("POST", f"/api/holds/{request_id}/release", content))
    yield from _catch_up(options)


def flush(options: Options) -> Steps[int]:
    """Send all that is spooled; see `resending.flush`. Without a spool there is nothing to send."""
    if options.spool is None:
        return 0
    from budget_bus.client import resending

    return (yield from resending.flush(options, options.spool))


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """None is the same as leaving a field out."""
    return {name: value for name, value in fields.items() if value is not None}


def now() -> str:
    """The time as events have it."""
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat()


def _spooled(spool: Spool, event: Mapping[str, Any], content: bytes) -> Steps[Info]:
    yield Local(partial(spool.append, content))
    return _recorded(event, {"status": "spooled"})


def _catch_up(options: Options) -> Steps[None]:
    """The service has answered: what was kept for it follows."""
    if options.spool and options.spool.wake():
        from budget_bus.client import resending

        yield from resending.catch_up(options, options.spool)


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
