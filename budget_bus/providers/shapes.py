"""The forms in which providers tell usage, whole and in chunks, and how each is gathered into one body."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from budget_bus.providers.gathering import (
    Body,
    Gathered,
    chat_chunks,
    converse_chunks,
    generate_chunks,
    message_events,
    ollama_chunks,
    response_events,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """
    One form. `fits` looks at a body or chunk, `gather` makes one body of a stream, whose usage lies at `root`.

    `library` names the extractor of genai-prices that reads such a body: its provider and flavour of API. None: the
    two fields in `plain` are input and output.
    """

    name: str
    root: str
    fits: Callable[[Body], bool]
    gather: Callable[[Sequence[Body]], Gathered]
    library: tuple[str, str] | None = None
    plain: tuple[str, str] = ("", "")
    total: str = ""


def _usage(body: Body) -> Body:
    found = body.get("usage")
    return found if isinstance(found, Mapping) else {}


def _is_chat(body: Body) -> bool:
    return (
        str(body.get("object", "")).startswith("chat.completion")
        or "choices" in body
        or "prompt_tokens" in _usage(body)
    )


def _is_embedding(body: Body) -> bool:
    usage = _usage(body)
    return body.get("object") == "list" and "prompt_tokens" in usage and "completion_tokens" not in usage


def _is_images(body: Body) -> bool:
    made = ("data" in body and "created" in body) or str(body.get("type", "")).startswith(
        ("image_generation.", "image_edit.")
    )
    return made and "prompt_tokens" not in _usage(body)


def _is_message(body: Body) -> bool:
    kind = str(body.get("type", ""))
    return kind == "message" or kind.startswith(("message_", "content_block_"))


def _is_response(body: Body) -> bool:
    kind = str(body.get("type", ""))
    return body.get("object") == "response" or (kind.startswith("response.") and not _is_realtime(body))


def _is_realtime(body: Body) -> bool:
    inner = body.get("response")
    return body.get("type") == "response.done" and isinstance(inner, Mapping)


def _is_generate(body: Body) -> bool:
    return "usageMetadata" in body or "candidates" in body or "promptFeedback" in body


def _is_converse(body: Body) -> bool:
    events = ("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata")
    return "inputTokens" in _usage(body) or "stopReason" in body or any(event in body for event in events)


def _is_ollama(body: Body) -> bool:
    return "done" in body and ("message" in body or "response" in body or "eval_count" in body)


def _last(bodies: Sequence[Body]) -> Gathered:
    return Gathered(bodies[-1])


CHAT: Final = Shape("chat", "usage", _is_chat, chat_chunks, ("openai", "chat"), total="total_tokens")
EMBEDDINGS: Final = Shape("embeddings", "usage", _is_embedding, _last, ("openai", "embeddings"))
IMAGES: Final = Shape("images", "usage", _is_images, _last, ("openai", "images"), total="total_tokens")
RESPONSES: Final = Shape(
    "responses", "usage", _is_response, response_events, ("openai", "responses"), total="total_tokens"
)
REALTIME: Final = Shape("realtime", "response.usage", _is_realtime, _last, ("openai", "realtime"))
MESSAGES: Final = Shape("messages", "usage", _is_message, message_events, ("anthropic", "default"))
GENERATE: Final = Shape(
    "generate", "usageMetadata", _is_generate, generate_chunks, ("google", "default"), total="totalTokenCount"
)
CONVERSE: Final = Shape("converse", "usage", _is_converse, converse_chunks, ("aws", "default"))
OLLAMA: Final = Shape("ollama", "", _is_ollama, ollama_chunks, plain=("prompt_eval_count", "eval_count"))
