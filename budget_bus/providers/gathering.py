"""
A stream's chunks -> one body that says what the whole call used.

The counts of chunks are running totals wherever a provider sends more than one, so they are laid over each other and
never added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Body = Mapping[str, Any]


class Gathered(NamedTuple):
    """
    One body. `complete` False: the stream ended before the provider's last word on its usage, and `text` is the output
    that was seen until then.
    """

    body: Body
    complete: bool = True
    text: str = ""


def chat_chunks(chunks: Sequence[Body]) -> Gathered:
    """
    Chat completions: the usage is in the last chunk that has one, under `x_groq` (Groq) or in a choice (Moonshot) too.

    It is complete in a chunk without choices or with a reason to finish; before that it is a running total.
    """
    body = _laid_over(chunks, skip=("usage", "choices"))
    usage: Any = None
    finished = False
    for chunk in chunks:
        choices = _listed(chunk, "choices")
        found = (
            chunk.get("usage")
            or _within(chunk, "x_groq", "usage")
            or next((choice["usage"] for choice in choices if choice.get("usage")), None)
        )
        usage = found or usage
        finished = finished or any(choice.get("finish_reason") for choice in choices)
        finished = finished or bool(found and not choices)
    whole = len(chunks) == 1 and chunks[0].get("object") != "chat.completion.chunk"
    return Gathered({**body, "usage": usage}, complete=finished or whole)


def response_events(events: Sequence[Body]) -> Gathered:
    """OpenAI's responses API: whole, or the `response` of the last event that has a usage."""
    bodies = [event["response"] if isinstance(event.get("response"), Mapping) else event for event in events]
    told = [body for body in bodies if isinstance(body.get("usage"), Mapping)]
    return Gathered(told[-1] if told else bodies[-1])


def message_events(events: Sequence[Body]) -> Gathered:
    """
    Anthropic's messages: the usage of message_start, with the running totals of each message_delta laid over it.

    Without a message_delta that counts it the output is unknown: message_start has its first token or so.
    """
    if len(events) == 1 and events[0].get("type") == "message":
        return Gathered(events[0])
    body: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    text: list[str] = []
    complete = False
    for event in events:
        if isinstance(event.get("message"), Mapping):
            body = dict(event["message"])
        for told in (_within(event, "message", "usage"), event.get("usage")):
            if isinstance(told, Mapping):
                usage.update({key: value for key, value in told.items() if value is not None})
        final = event.get("type") == "message_delta" and _within(event, "usage", "output_tokens") is not None
        complete = complete or final
        delta = event.get("delta")
        if isinstance(delta, Mapping):
            text.extend(str(delta[key]) for key in ("text", "thinking", "partial_json") if delta.get(key))
    return Gathered({**body, "usage": usage or None}, complete, "".join(text))


def generate_chunks(chunks: Sequence[Body]) -> Gathered:
    """Gemini: every chunk has the running totals; they are final in one with a reason to finish."""
    usage: dict[str, Any] = {}
    finished = False
    for chunk in chunks:
        told = chunk.get("usageMetadata")
        usage.update(told if isinstance(told, Mapping) else {})
        finished = finished or any(candidate.get("finishReason") for candidate in _listed(chunk, "candidates"))
        finished = finished or bool(_within(chunk, "promptFeedback", "blockReason"))
    whole = len(chunks) == 1 and "candidates" not in chunks[0]
    return Gathered({**_laid_over(chunks), "usageMetadata": usage or None}, complete=finished or whole)


def converse_chunks(events: Sequence[Body]) -> Gathered:
    """Bedrock Converse: whole, or the usage of the stream's metadata event."""
    body = _laid_over(events, skip=("usage",))
    told = [_within(event, "metadata", "usage") or event.get("usage") for event in events]
    return Gathered({**body, "usage": next((usage for usage in reversed(told) if usage), None)})


def ollama_chunks(chunks: Sequence[Body]) -> Gathered:
    """Ollama: the counts are in the chunk that is done."""
    done = [chunk for chunk in chunks if chunk.get("done")]
    return Gathered(done[-1] if done else {})


def _laid_over(chunks: Sequence[Body], skip: Sequence[str] = ()) -> dict[str, Any]:
    """All chunks as one body; of a key that comes more than once the last value other than None."""
    return {key: value for chunk in chunks for key, value in chunk.items() if value is not None and key not in skip}


def _listed(body: Body, key: str) -> list[Body]:
    found = body.get(key)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list | tuple) else []


def _within(body: Body, *path: str) -> Any:
    found: Any = body
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found
