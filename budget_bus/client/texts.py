"""Which part of a stream's chunk is text of the model: one table of the forms that providers send."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Chunk = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """
    One form of chunks. `texts` are the places of text: names with a dot between them, `*` for each of a list. Text is
    what is a string there, or an object, such as a call's arguments, as its JSON.
    """

    name: str
    fits: Callable[[Chunk], bool]
    texts: tuple[str, ...]


def _starts(*words: str) -> Callable[[Chunk], bool]:
    return lambda chunk: str(chunk.get("type", "")).startswith(words)


def _has(*keys: str) -> Callable[[Chunk], bool]:
    return lambda chunk: any(key in chunk for key in keys)


# The first that fits counts. Not here, for it is no text: audio, images, and the signatures of thoughts.
FORMS = (
    Form(
        "OpenAI's audio and image events",
        _starts("response.audio.delta", "response.image_gen", "image_gen", "image_edit"),
        (),
    ),
    Form("OpenAI's responses", _starts("response."), ("delta",)),
    Form(
        "Anthropic's messages",
        _starts("message_", "content_block_", "ping"),
        ("delta.text", "delta.thinking", "delta.partial_json"),
    ),
    Form("Anthropic's completions", _starts("completion"), ("completion",)),
    Form(
        "OpenAI's chat completions",
        _has("choices"),
        (
            "choices.*.delta.content",
            "choices.*.delta.content.*.text",
            "choices.*.delta.reasoning_content",
            "choices.*.delta.reasoning",
            "choices.*.delta.refusal",
            "choices.*.delta.tool_calls.*.function.name",
            "choices.*.delta.tool_calls.*.function.arguments",
            "choices.*.delta.function_call.arguments",
            "choices.*.text",
        ),
    ),
    Form(
        "Gemini's chunks",
        _has("candidates", "usageMetadata", "promptFeedback"),
        (
            "candidates.*.content.parts.*.text",
            "candidates.*.content.parts.*.functionCall.args",
            "candidates.*.content.parts.*.executableCode.code",
        ),
    ),
    Form(
        "Bedrock's Converse",
        _has("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"),
        (
            "contentBlockDelta.delta.text",
            "contentBlockDelta.delta.toolUse.input",
            "contentBlockDelta.delta.reasoningContent.text",
        ),
    ),
    Form(
        "Ollama's chunks",
        _has("done"),
        ("message.content", "message.thinking", "message.tool_calls.*.function.arguments", "response", "thinking"),
    ),
)


def text_of(chunk: Chunk) -> str | None:
    """The model's text in one chunk, empty where it has none; None: the form is not known."""
    for form in FORMS:
        if form.fits(chunk):
            return "".join(text for place in form.texts for text in _found(chunk, place.split(".")))
    return None


def _found(value: Any, steps: list[str]) -> Iterator[str]:
    if not steps:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping) and value:
            yield json.dumps(value, default=str)
    elif steps[0] == "*":
        for item in value if isinstance(value, list | tuple) else ():
            yield from _found(item, steps[1:])
    elif isinstance(value, Mapping):
        yield from _found(value.get(steps[0]), steps[1:])
