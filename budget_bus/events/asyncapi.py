"""The AsyncAPI 3.0 document of the topics, made from the topic table and the published schemas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from budget_bus import __version__
from budget_bus.events import topics
from budget_bus.events.published import PUBLISHED, Published

_CORRELATION = {
    "correlation_id": "tells which answer is for which question; without it the request_id serves",
    "reply_topic": "where the answer goes; check.response unless it is given",
    "reply_partition": "the partition of the answer, as text digits; any unless it is given",
}
_ANSWERED = {
    "correlation_id": "as the question had it, else its request_id",
    "error": "`conflict` or `invalid`, where there is no decision: then the value is an object whose `detail` says why",
}
_DEAD = {
    "dlq_reason": "what is wrong with the record",
    "dlq_topic": "the topic that it came from",
    "dlq_partition": "its partition there",
    "dlq_offset": "its offset there",
    "dlq_at": "when it was put aside, RFC 3339",
    "dlq_detail": "more about the reason, if there is more",
    "dlq_truncated": "how many bytes the value had, if it was too large and is cut",
}


@dataclass(frozen=True, slots=True)
class Use:
    """What the service does with a topic, in the words of AsyncAPI: `receive` is what components send to it."""

    action: str
    summary: str
    headers: dict[str, str]
    reply: str | None = None


USES: dict[str, Use] = {
    topics.USAGE_RECORDED: Use("receive", "A call was made; it is counted once, and settles its hold", {}),
    topics.CHECK_REQUESTED: Use("receive", "May this call be made?", _CORRELATION, reply=topics.CHECK_RESPONSE),
    topics.CHECK_RESPONSE: Use("send", "The decision, as POST /api/check answers it", _ANSWERED),
    topics.HOLD_RELEASED: Use("receive", "A call that was allowed is not made", {}),
    topics.HOLD_EXTENDED: Use("receive", "A call that was allowed takes longer", {}),
    topics.BUDGET_ALERTS: Use("send", "A budget has reached a threshold, or is below it again", {}),
    topics.BUDGET_UPDATES: Use("send", "The balance of a budget's window", {}),
    topics.BUDGET_CHANGES: Use(
        "send", "A limit, price, setting, alert, hold, key or topic was changed, and by whom", {}
    ),
}


def document() -> dict[str, Any]:
    """The document; a dead letter has no schema, for it is the bytes of what could not be read."""
    events = {event.topic: event for event in PUBLISHED}
    dead = [topics.dead_letter_topic(topic) for topic in topics.INBOUND]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "budget_bus",
            "version": __version__,
            "description": "Budgets of programs that call LLMs, on Kafka. Values are JSON in UTF-8; money is a decimal "
            "string. BUDGET_TOPIC_PREFIX goes before every name.",
            "license": {"name": "MIT"},
        },
        "servers": {
            "broker": {
                "host": "localhost:9092",
                "protocol": "kafka",
                "description": "BUDGET_KAFKA_BOOTSTRAP_SERVERS; GET /api/status names those of a service that runs",
            }
        },
        "defaultContentType": "application/json",
        "channels": {
            **{topic: _channel(topic, f"{topic}.v{events[topic].version}") for topic in USES},
            **{topic: _channel(topic, "dead_letter") for topic in dead},
        },
        "operations": {
            **{topic: _operation(topic, use) for topic, use in USES.items()},
            **{topic: _operation(topic, Use("send", "A record that could not be used", {})) for topic in dead},
        },
        "components": {
            "messages": {
                **{f"{topic}.v{events[topic].version}": _message(events[topic], use) for topic, use in USES.items()},
                "dead_letter": {
                    "summary": "The raw bytes of the record, with its key and headers, and why it is here",
                    "contentType": "application/octet-stream",
                    "headers": _headers(_DEAD),
                },
            }
        },
    }


def _channel(topic: str, message: str) -> dict[str, Any]:
    spec = next(spec for spec in topics.TOPICS if spec.name == topic)
    kafka: dict[str, Any] = {"topicConfiguration": {"retention.ms": spec.retention_ms}, "bindingVersion": "0.5.0"}
    if spec.compacted:
        kafka["topicConfiguration"]["cleanup.policy"] = ["compact"]
    if spec.partitions is not None:
        kafka["partitions"] = spec.partitions
    return {
        "address": topic,
        "description": f"The key is {spec.key}.",
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {"kafka": kafka},
    }


def _operation(topic: str, use: Use) -> dict[str, Any]:
    made: dict[str, Any] = {
        "action": use.action,
        "channel": {"$ref": f"#/channels/{topic}"},
        "summary": use.summary,
    }
    if use.reply:
        made["reply"] = {
            "address": {"location": "$message.header#/reply_topic", "description": _CORRELATION["reply_topic"]},
            "channel": {"$ref": f"#/channels/{use.reply}"},
        }
    return made


def _message(event: Published, use: Use) -> dict[str, Any]:
    made: dict[str, Any] = {"title": event.model.__name__, "summary": use.summary}
    if use.headers:
        made["headers"] = _headers(use.headers)
    if "correlation_id" in use.headers:
        made["correlationId"] = {"location": "$message.header#/correlation_id"}
    schema = event.schema()
    # A reference within the schema is to be found from the document's root.
    root = f"#/components/messages/{event.topic}.v{event.version}/payload"
    made["payload"] = _moved({key: value for key, value in schema.items() if key not in ("$schema", "$id")}, root)
    return made


def _headers(meanings: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": meaning} for name, meaning in meanings.items()},
    }


def _moved(node: Any, root: str) -> Any:
    if isinstance(node, list):
        return [_moved(item, root) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: f"{root}{value.removeprefix('#')}" if key == "$ref" else _moved(value, root) for key, value in node.items()
    }
