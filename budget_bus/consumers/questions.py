"""check.requested as it comes, and where its answer goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRecord

from budget_bus.consumers.batch import Batch
from budget_bus.consumers.dead_letters import DeadLetter
from budget_bus.consumers.estimates import Estimate, without_of
from budget_bus.consumers.incoming import call_of
from budget_bus.errors import Rejected
from budget_bus.events.checks import CheckRequested
from budget_bus.events.decode import decode
from budget_bus.policy.scope import Call


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer on its way to the asker's partition; *error* names what is wrong instead of a decision."""

    topic: str
    partition: int | None
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Question:
    """A check as it came, with where its answer goes."""

    record: ConsumerRecord
    asked: CheckRequested
    digest: bytes
    call: Call

    def reply(self, value: bytes, *, error: str | None = None) -> Reply:
        return _reply(_headers(self.record), str(self.asked.request_id), value, error)


def _headers(record: ConsumerRecord) -> dict[str, str]:
    return {name: text for name, raw in record.headers if (text := _text(raw)) is not None}


def _reply(headers: Mapping[str, str], request_id: str, value: bytes, error: str | None) -> Reply:
    partition = headers.get("reply_partition", "")
    marks = [("correlation_id", headers.get("correlation_id", request_id).encode())]
    if error:
        marks.append(("error", error.encode()))
    return Reply(
        topic=headers.get("reply_topic", ""),
        partition=int(partition) if partition.isascii() and partition.isdigit() and len(partition) < 7 else None,
        key=request_id.encode(),
        value=value,
        headers=marks,
    )


def invalid(letter: DeadLetter) -> Reply | None:
    """What the asker of a question that cannot be used is told at once, if it can be told: the dead letter's reason."""
    headers = _headers(letter.record)
    if "correlation_id" not in headers:
        return None
    detail = json.dumps({"detail": letter.reason}).encode()
    return _reply(headers, headers["correlation_id"], detail, "invalid")


def asked_of(asked: CheckRequested, call: Call, of_one: Estimate) -> dict[str, Any]:
    """What a replay must know of a question, and what one such call was estimated at; what is usual is left out."""
    without = without_of(asked)
    said = {
        "tier": call.tier,
        "task_type": call.task_type,
        "context_id": call.context_id,
        "user": call.user,
        "tags": dict(call.tags),
        "critical": asked.priority == "critical",
        "no_hold": not asked.hold,
        "hold_ttl_s": asked.hold_ttl_s,
        "lease_calls": asked.lease_calls,
        "service_tier": asked.service_tier if asked.service_tier != "standard" else None,
        "without": list(without) if any(without) else None,
    }
    estimate = {
        "tokens": of_one.tokens,
        "input_tokens": of_one.input_tokens,
        "output_tokens": of_one.output_tokens,
        "cost_nanos": of_one.cost,
        "currency": of_one.currency,
    }
    return {name: value for name, value in said.items() if value} | {
        name: value for name, value in estimate.items() if value is not None
    }


def read_questions(batch: Batch, refused: str | None) -> tuple[list[Question], list[DeadLetter]]:
    """The questions of a batch, and the records that are none; all of them if *refused* says why."""
    questions, dead = [], []
    for record in batch.records:
        try:
            if refused is not None:
                raise Rejected(refused)
            asked = decode(CheckRequested, record.value)
        except Rejected as error:
            dead.append(DeadLetter(record, str(error)))
            continue
        questions.append(Question(record, asked, asked.digest(), call_of(asked)))
    return questions, dead


def _text(raw: bytes | None) -> str | None:
    # A header that is null or not UTF-8 is ignored; it must not cost the question its answer.
    try:
        return raw.decode() if raw is not None else None
    except UnicodeDecodeError:
        return None
