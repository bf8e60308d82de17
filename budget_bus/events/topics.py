"""The topics: names, what their keys are, how they are kept."""

from __future__ import annotations

from dataclasses import dataclass

USAGE_RECORDED = "usage.recorded"
CHECK_REQUESTED = "check.requested"
CHECK_RESPONSE = "check.response"
HOLD_RELEASED = "hold.released"
HOLD_EXTENDED = "hold.extended"
BUDGET_ALERTS = "budget.alerts"
BUDGET_UPDATES = "budget.updates"
BUDGET_CHANGES = "budget.changes"

INBOUND = (USAGE_RECORDED, CHECK_REQUESTED, HOLD_RELEASED, HOLD_EXTENDED)

_DAY_MS = 24 * 3600 * 1000


def dead_letter_topic(topic: str) -> str:
    """Where records of *topic* go that could not be used."""
    return f"{topic}.dlq"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is made. `partitions` None takes the setting; retention is in milliseconds, -1 keeps for ever."""

    name: str
    key: str
    partitions: int | None
    retention_ms: int
    compacted: bool = False


TOPICS: tuple[TopicSpec, ...] = (
    TopicSpec(USAGE_RECORDED, "component", None, 7 * _DAY_MS),
    TopicSpec(CHECK_REQUESTED, "component", None, _DAY_MS),
    TopicSpec(CHECK_RESPONSE, "request_id", 16, _DAY_MS // 24),
    TopicSpec(HOLD_RELEASED, "component", None, 7 * _DAY_MS),
    TopicSpec(HOLD_EXTENDED, "component", None, 7 * _DAY_MS),
    TopicSpec(BUDGET_ALERTS, "budget_id", 1, 30 * _DAY_MS),
    TopicSpec(BUDGET_UPDATES, "budget_id", 1, 7 * _DAY_MS, compacted=True),
    TopicSpec(BUDGET_CHANGES, "the budget_id, or the name of what else was changed", 1, -1),
    # A dead letter is kept longer than its source, so that there is time to replay it.
    *(TopicSpec(dead_letter_topic(topic), "the record's own", 1, 30 * _DAY_MS) for topic in INBOUND),
)
