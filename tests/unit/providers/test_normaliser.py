"""Laws of the normaliser, and that events take what it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from budget_bus.errors import Rejected
from budget_bus.events.usage import UsageRecorded
from budget_bus.producers.fields import read_fields
from budget_bus.producers.responses import usage_fields
from budget_bus.providers.registry import provider_of, registry

COUNTS = st.integers(0, 10**6)
MAYBE = st.none() | COUNTS
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def chat_usage(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "prompt_tokens": draw(COUNTS),
        "completion_tokens": draw(COUNTS),
        "total_tokens": draw(MAYBE),
        "prompt_tokens_details": {"cached_tokens": draw(MAYBE), "cache_write_tokens": draw(MAYBE)},
        "completion_tokens_details": {"reasoning_tokens": draw(MAYBE)},
    }


@given(st.sampled_from(sorted(registry().providers)), chat_usage())
def test_no_part_is_larger_than_its_whole_and_nothing_is_lost(provider: str, usage: dict[str, Any]) -> None:
    found = provider_of(provider).usage({"object": "chat.completion", "usage": usage})
    tokens = found.tokens
    assert tokens.cache_read + tokens.cache_creation <= tokens.input
    assert tokens.reasoning_output + tokens.output_audio <= tokens.output
    assert tokens.input >= usage["prompt_tokens"]
    assert tokens.output >= usage["completion_tokens"]
    assert tokens.total >= (usage["total_tokens"] or 0)
    said = usage_fields(provider, "m", {"object": "chat.completion", "usage": usage}, component="c")
    assert read_fields(UsageRecorded, said).input_tokens == tokens.input


@given(chat_usage())
def test_numbers_that_agree_are_not_marked(usage: dict[str, Any]) -> None:
    cached = sum(usage["prompt_tokens_details"][key] or 0 for key in ("cached_tokens", "cache_write_tokens"))
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"] or 0
    usage |= {"prompt_tokens": usage["prompt_tokens"] + cached}
    usage |= {"completion_tokens": usage["completion_tokens"] + reasoning}
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    found = provider_of("openai").usage({"object": "chat.completion", "usage": usage})
    assert not found.estimated
    assert (found.tokens.input, found.tokens.output) == (usage["prompt_tokens"], usage["completion_tokens"])


@given(st.sampled_from(sorted(registry().providers)), ANYTHING)
def test_whatever_comes_it_is_read_or_refused(provider: str, raw: Any) -> None:
    for response in (raw, {"usage": raw, "choices": raw}, {"usageMetadata": raw}, [{"type": "message", "usage": raw}]):
        try:
            tokens = provider_of(provider).usage(response).tokens
        except Rejected:
            continue
        assert min(tokens) >= 0


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        pytest.param("text", "response", id="a text is no response"),
        pytest.param(7, "response", id="nor is a number"),
        pytest.param([], "response", id="a stream without a chunk"),
        pytest.param([{"choices": []}, "data: [DONE]"], "response.1", id="a chunk that was not parsed"),
        pytest.param({}, "response", id="an empty object"),
        pytest.param({"choices": []}, "usage", id="no usage"),
        pytest.param({"choices": [], "usage": {"prompt_tokens": 1}}, "usage", id="one side only"),
        pytest.param({"usage": {"prompt_tokens": True, "completion_tokens": 1}}, "usage.prompt_tokens", id="a boolean"),
        pytest.param({"usage": {"prompt_tokens": 1.5, "completion_tokens": 1}}, "usage.prompt_tokens", id="a fraction"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_field(raw: Any, field: str) -> None:
    with pytest.raises(Rejected) as refused:
        provider_of("openai").usage(raw)
    assert [error.field for error in refused.value.errors] == [field]


class Spelt(BaseModel):
    """As Google's SDK: names of Python's style, with those of the API as aliases."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Metadata(Spelt):
    prompt_token_count: int
    candidates_token_count: int | None
    thoughts_token_count: int | None = None
    total_token_count: int


class Generated(Spelt):
    candidates: list[dict[str, str]]
    usage_metadata: Metadata


class Completion(BaseModel):
    """As OpenAI's SDK."""

    object: str = "chat.completion"
    choices: list[str] = []
    usage: dict[str, float | None] = {"prompt_tokens": 3.0, "completion_tokens": 1, "total_tokens": None}


def test_an_sdk_s_object_is_taken_as_it_is() -> None:
    assert provider_of("openai").usage(Completion()).tokens[:2] == (3, 1)  # type: ignore[arg-type]
    assert provider_of("openai").usage([Completion()]).tokens[:2] == (3, 1)
    metadata = Metadata(prompt_token_count=5, candidates_token_count=None, thoughts_token_count=7, total_token_count=12)
    generated = Generated(candidates=[{"finishReason": "MAX_TOKENS"}], usage_metadata=metadata)
    assert provider_of("google").usage([generated]).tokens[:2] == (5, 7)


def test_fields_of_the_caller_go_before_those_of_the_response() -> None:
    response = {"model": "gpt-4o-2024-08-06", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    assert usage_fields("OpenAI", "gpt-4o", response, task_type="chat")["task_type"] == "chat"
    assert usage_fields("openai", "gpt-4o", response, estimated=True)["estimated"] is True
    assert usage_fields("openai", "gpt-4o", response)["model"] == "gpt-4o"
    assert usage_fields("openai", None, response)["model"] == "gpt-4o-2024-08-06"
    with pytest.raises(Rejected, match="model"):
        usage_fields("openai", None, {"choices": [], "usage": response["usage"]})
