"""Where the text of a chunk is, form by form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from budget_bus.client.texts import text_of

VECTORS = Path(__file__).parents[3] / "schemas" / "examples" / "usage"


def chat(**delta: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        pytest.param(chat(role="assistant", content=""), "", id="chat: the beginning"),
        pytest.param(chat(content="Hello"), "Hello", id="chat: content"),
        pytest.param(chat(content=None), "", id="chat: null"),
        pytest.param(chat(content=[{"type": "text", "text": "Hel"}, {"text": "lo"}]), "Hello", id="chat: parts"),
        pytest.param(chat(reasoning_content="Hm"), "Hm", id="chat: reasoning of DeepSeek and others"),
        pytest.param(chat(reasoning="Hm"), "Hm", id="chat: reasoning of OpenRouter and Groq"),
        pytest.param(chat(refusal="No"), "No", id="chat: a refusal"),
        pytest.param(
            chat(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": '{"a'}}]), 'f{"a', id="chat: a tool"
        ),
        pytest.param({"choices": [], "usage": {"prompt_tokens": 1}}, "", id="chat: usage alone"),
        pytest.param({"choices": [{"text": "Hi"}, {"text": "Ho"}]}, "HiHo", id="completions: two choices"),
        pytest.param({"type": "response.created", "response": {"output": []}}, "", id="responses: the beginning"),
        pytest.param({"type": "response.output_text.delta", "delta": "Hi"}, "Hi", id="responses: text"),
        pytest.param({"type": "response.function_call_arguments.delta", "delta": "{"}, "{", id="responses: a tool"),
        pytest.param({"type": "response.output_text.done", "text": "Hi"}, "", id="responses: the text once more"),
        pytest.param({"type": "response.audio.delta", "delta": "UklGR"}, "", id="responses: sound"),
        pytest.param({"type": "image_generation.partial_image", "b64_json": "iVBO"}, "", id="images"),
        pytest.param({"type": "message_start", "message": {"content": []}}, "", id="messages: the beginning"),
        pytest.param({"type": "ping"}, "", id="messages: a ping"),
        pytest.param(
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}, "Hi", id="messages: text"
        ),
        pytest.param(
            {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Hm"}},
            "Hm",
            id="messages: thoughts",
        ),
        pytest.param(
            {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "x"}},
            "",
            id="messages: the signature of thoughts",
        ),
        pytest.param(
            {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}},
            "{",
            id="messages: a tool",
        ),
        pytest.param({"type": "completion", "completion": "Hi"}, "Hi", id="Anthropic's old completions"),
        pytest.param(
            {"candidates": [{"content": {"parts": [{"text": "Hm", "thought": True}, {"text": "Hi"}]}}]},
            "HmHi",
            id="Gemini: text",
        ),
        pytest.param(
            {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}]}}]},
            '{"a": 1}',
            id="Gemini: a tool",
        ),
        pytest.param({"candidates": [{"finishReason": "STOP"}], "usageMetadata": {}}, "", id="Gemini: the end"),
        pytest.param({"contentBlockDelta": {"delta": {"text": "Hi"}}}, "Hi", id="Converse: text"),
        pytest.param({"metadata": {"usage": {}}}, "", id="Converse: usage"),
        pytest.param({"message": {"content": "Hi", "thinking": "Hm"}, "done": False}, "HiHm", id="Ollama: chat"),
        pytest.param({"response": "Hi", "done": False}, "Hi", id="Ollama: generate"),
        pytest.param({"foo": "bar"}, None, id="unknown"),
        pytest.param({}, None, id="empty"),
        pytest.param({"choices": "many", "candidates": 3}, "", id="known by its keys, and odd"),
    ],
)
def test_the_text_of_a_chunk(chunk: dict[str, Any], text: str | None) -> None:
    assert text_of(chunk) == text


def test_every_published_stream_has_a_known_form() -> None:
    vectors = [json.loads(file.read_text()) for file in sorted(VECTORS.glob("*.json"))]
    streams = {vector["title"]: vector["chunks"] for vector in vectors if "chunks" in vector}
    assert len(streams) > 20
    assert {title for title, chunks in streams.items() if None in map(text_of, chunks)} == set()
