"""POST /api/record: these calls were made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter
from pydantic_core import from_json

from budget_bus.errors import FieldError, Rejected
from budget_bus.events.fields import MAX_FUTURE_S
from budget_bus.events.ids import new_id
from budget_bus.events.usage import UsageRecorded
from budget_bus.http.body import read_json, read_type
from budget_bus.http.parts import Call
from budget_bus.http.problems import NotJson
from budget_bus.http.query import Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.http.settled import Result, await_settled
from budget_bus.keys.key import KeyRole

MAX_EVENTS = 1000

_Events = Annotated[list[UsageRecorded], Field(max_length=MAX_EVENTS)]


class EventList(BaseModel):
    """The named form of a list of events."""

    events: _Events


class Accepted(BaseModel):
    """Kafka has the events; they are in the ledger soon."""

    accepted: int
    event_ids: list[UUID]
    status: Literal["pending"] | None = None


class Results(BaseModel):
    """What became of each event, in the order they were given."""

    results: list[Result]


class RecordQuery(Query):
    """`wait`: answer once the events are in the ledger."""

    wait: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one request, and the path to each for error messages, with {} for its index."""

    events: list[UsageRecorded]
    prefix: str


_BARE_LIST: TypeAdapter[list[UsageRecorded]] = TypeAdapter(_Events)


def read_batch(raw: bytes) -> Batch:
    """
    Read one event, `[...]` or `{"events": [...]}`.

    Raises:
        NotJson: it is not JSON.
        Rejected: names every wrong field with the index of its event; nothing of the batch is taken.
    """
    try:
        shape = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise NotJson(str(error)) from None
    if isinstance(shape, list):
        return Batch(read_type(_BARE_LIST, raw), "{}.")
    if isinstance(shape, dict) and "events" in shape:
        return Batch(read_json(EventList, raw).events, "events.{}.")
    return Batch([read_json(UsageRecorded, raw)], "")


async def record(call: Call[RecordQuery, Batch]) -> Answer:
    """
    Publish the events as their caller sent them; only a missing `event_id` is added, because duplicates and conflicts
    are judged on what the caller said.

    Raises:
        Forbidden: the key is bound to other components than one of them names; nothing was sent.
        Rejected: an event lies in the future; nothing was sent.
        BudgetUnavailable: not all were acknowledged; the same request with the same ids may be repeated.
    """
    call.principal.must_act_for({event.component for event in call.body.events})
    latest = call.parts.now() + timedelta(seconds=MAX_FUTURE_S)
    early = [i for i, event in enumerate(call.body.events) if event.occurred_at and event.occurred_at > latest]
    if early:
        message = f"is more than {MAX_FUTURE_S} s in the future"
        prefix = call.body.prefix
        raise Rejected("invalid input", [FieldError(prefix.format(i) + "occurred_at", message) for i in early])
    ids = [event.event_id or new_id() for event in call.body.events]
    events = [
        event if event.event_id else event.model_copy(update={"event_id": event_id})
        for event, event_id in zip(call.body.events, ids, strict=True)
    ]
    places = await call.parts.bus.send_usage(events)
    if call.query.wait:
        results = await await_settled(call.parts, events, [(place.partition, place.offset) for place in places])
        if results is not None:
            return Answer(Results(results=results))
    accepted = Accepted(accepted=len(ids), event_ids=ids, status="pending" if call.query.wait else None)
    return Answer(accepted.model_dump_json(exclude_none=True).encode(), 202)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/record",
        summary="Record calls that were made",
        handle=record,
        query=RecordQuery,
        body=UsageRecorded | list[UsageRecorded] | EventList,
        read=read_batch,
        answers={202: Accepted, 200: Results},
        tags=("calls",),
        role=KeyRole.RECORD,
    ),
)
