"""POST /api/check: may this call be made?"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, Field

from budget_bus.events.checks import CheckRequested, CheckResponse
from budget_bus.events.ids import new_id
from budget_bus.http.parts import Call
from budget_bus.http.query import Query
from budget_bus.http.route import Answer, Endpoint
from budget_bus.keys.key import KeyRole


def _id_or_new(value: Any) -> Any:
    return new_id() if value is None else value


class CheckBody(CheckRequested):
    """As check.requested; without `request_id` the gateway makes one, and it sets the deadline."""

    request_id: Annotated[UUID, BeforeValidator(_id_or_new)] = Field(default_factory=new_id)


async def check(call: Call[Query, CheckBody]) -> Answer:
    """
    Ask on the bus and answer with the decision's own bytes, so that a repeated `request_id` gets the same ones.

    Raises:
        Forbidden: the key is bound to other components.
        Conflict: the `request_id` was used for a different question.
        BudgetUnavailable: the broker is away; as NoAnswer: no decision in time. Both carry the `request_id`.
    """
    call.principal.must_act_for([call.body.component])
    timeout_s = call.parts.settings.check_timeout_ms / 1000
    return Answer(await call.parts.bus.ask(call.body, timeout_s=timeout_s))


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/check",
        summary="May this call be made?",
        handle=check,
        body=CheckBody,
        answers={200: CheckResponse},
        tags=("calls",),
        role=KeyRole.CHECK,
    ),
)
