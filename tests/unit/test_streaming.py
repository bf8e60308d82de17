"""What is recorded of a streamed answer, whole or broken off, for each provider's chunks."""

from __future__ import annotations

from typing import Any

import pytest

from budget_bus.client.streaming import MAX_TEXT, StreamedUsage

ASKED = {"input_tokens": 100, "max_output_tokens": 50}


def openai(text: str | None = None, usage: dict[str, int] | None = None) -> dict[str, Any]:
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "gpt-4o",
        "choices": choices,
        "usage": usage,
    }


OPENAI = [openai("Hel"), openai("lo"), openai(usage={"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9})]
ANTHROPIC: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "msg_1", "model": "claude-sonnet-4-5", "role": "assistant",
     "usage": {"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 1}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12}},
]  # fmt: skip


def google(text: str, count: int, finish: str | None = None) -> dict[str, Any]:
    used = {"promptTokenCount": 7, "candidatesTokenCount": count, "totalTokenCount": 7 + count}
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": finish}
    return {"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "usageMetadata": used}


GOOGLE = [google("Hel", 1), google("lo", 2, "STOP")]


def told(provider: str, model: str, chunks: list[Any], asked: dict[str, Any] | None = None) -> dict[str, Any] | None:
    streamed = StreamedUsage()
    for chunk in chunks:
        streamed.take(chunk)
    return streamed.fields(provider, model, ASKED if asked is None else asked)


@pytest.mark.parametrize(
    ("provider", "model", "chunks", "said"),
    [
        pytest.param("openai", "gpt-4o", OPENAI, (7, 2), id="openai"),
        pytest.param("anthropic", "claude-sonnet-4-5", ANTHROPIC, (10, 12), id="anthropic"),
        pytest.param("google", "gemini-2.5-flash", GOOGLE, (7, 2), id="google"),
    ],
)
def test_a_whole_stream_has_the_providers_own_numbers(
    provider: str, model: str, chunks: list[Any], said: tuple[int, int]
) -> None:
    found = told(provider, model, chunks)
    assert found is not None
    assert (found["input_tokens"], found["output_tokens"], found.get("estimated", False)) == (*said, False)


def test_a_stream_that_is_broken_off_is_estimated_from_what_came() -> None:
    assert told("openai", "gpt-4o", OPENAI[:2]) == {"input_tokens": 100, "output_text": "Hello", "estimated": True}


def test_what_a_provider_says_at_the_beginning_is_not_taken_for_the_whole_answer() -> None:
    found = told("anthropic", "claude-sonnet-4-5", ANTHROPIC[:2])
    assert found == {
        "input_tokens": 10,
        "cache_read_input_tokens": 3,
        "output_text": "Hello",
        "estimated": True,
    }


def test_numbers_that_grow_with_the_chunks_are_those_of_the_last_that_came() -> None:
    found = told("google", "gemini-2.5-flash", GOOGLE[:1])
    assert found is not None
    assert (found["input_tokens"], found["output_tokens"]) == (7, 1)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"input_text": "Say hello"}, {"input_text": "Say hello"}),
        ({"estimated_tokens": 500}, {"input_tokens": 500}),
    ],
)
def test_the_input_is_what_was_asked_for(asked: dict[str, Any], said: dict[str, Any]) -> None:
    assert told("openai", "gpt-4o", OPENAI[:1], asked) == {**said, "output_text": "Hel", "estimated": True}


def test_a_stream_without_a_word_has_no_output_and_one_of_nothing_known_is_not_guessed() -> None:
    assert told("openai", "gpt-4o", []) == {"input_tokens": 100, "output_tokens": 0, "estimated": True}
    assert told("openai", "gpt-4o", OPENAI[:1], {"component": "x"}) is None


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        ({"type": "response.output_text.delta", "delta": "Hi"}, "Hi"),
        ({"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]}, "{}"),
        ({"choices": [{"text": "Hi"}]}, "Hi"),
        ({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{}"}}, "{}"),
        ({"message": {"role": "assistant", "content": "Hi"}, "done": False}, "Hi"),
        ({"response": "Hi", "done": False}, "Hi"),
    ],
)
def test_the_text_is_found_wherever_a_provider_has_it(chunk: dict[str, Any], text: str) -> None:
    found = told("openai", "gpt-4o", [chunk])
    assert found is not None
    assert found["output_text"] == text


def test_objects_of_an_sdk_are_read_too_and_what_is_neither_is_passed_over() -> None:
    class Chunk:
        def model_dump(self) -> dict[str, Any]:
            return openai("Hi")

    found = told("openai", "gpt-4o", [Chunk(), "data: [DONE]", None, 3])
    assert found == {"input_tokens": 100, "output_text": "Hi", "estimated": True}


def test_a_text_beyond_all_bounds_is_not_kept_and_not_too_little() -> None:
    found = told("openai", "gpt-4o", [openai("x" * 600_000), openai("y" * 600_000)])
    assert found == {"input_tokens": 100, "output_tokens": 1_200_000, "estimated": True}
    streamed = StreamedUsage()
    for _ in range(10):
        streamed.take(openai("z" * 600_000))
    assert streamed._kept == MAX_TEXT
