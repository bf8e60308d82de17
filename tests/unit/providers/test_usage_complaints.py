"""What users of comparable services suffer from when usage is read from responses, told again of our normaliser."""

from __future__ import annotations

from typing import Any

import pytest
from genai_prices import extract_usage

from budget_bus.errors import Rejected
from budget_bus.producers.responses import usage_fields
from budget_bus.providers.registry import provider_of


def chat(usage: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "message": {"content": "..."}, "finish_reason": "stop"}]
    return {"id": "chatcmpl-7", "object": "chat.completion", "model": "m", "choices": choices, "usage": usage, **more}


def chunk(usage: dict[str, Any] | None = None, *, done: bool = False) -> dict[str, Any]:
    choices = [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop" if done else None}]
    return {"id": "chatcmpl-8", "object": "chat.completion.chunk", "model": "m", "choices": choices, "usage": usage}


def test_a_stream_without_usage_is_refused_and_not_recorded_as_zero() -> None:
    """BerriAI/litellm#34875: 80.7 % of streaming rows at $0; aai-labs/agent-barn PR 155: three months at $0.00."""
    with pytest.raises(Rejected, match="include_usage"):
        usage_fields("openai", "gpt-4o", [chunk(), chunk(done=True)])


@pytest.mark.parametrize("provider", ["google", "azure", "bedrock"])
def test_a_streamed_message_of_anthropic_s_is_read_on_every_cloud(provider: str) -> None:
    """BerriAI/litellm#37923: all of streamed Vertex Anthropic at 0; #40100: azure_ai streams at $0."""
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 900, "output_tokens": 1}}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 80}},
        {"type": "message_stop"},
    ]
    said = usage_fields(provider, "claude-sonnet-4-5", events)
    assert (said["input_tokens"], said["output_tokens"]) == (900, 80)


def test_a_stream_that_broke_off_is_recorded_with_what_was_seen_and_marked() -> None:
    """BerriAI/litellm#14457, #13245, #17364: disconnects are not billed at all."""
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 900, "output_tokens": 1}}}
    words = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Once upon a time " * 20}}
    stopped: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": None}
    said = usage_fields("anthropic", "claude-sonnet-4-5", [start, words])
    assert said == usage_fields("anthropic", "claude-sonnet-4-5", [start, words, stopped])
    assert said["estimated"] is True
    assert said["input_tokens"] == 900
    assert 80 <= said["output_tokens"] <= 200


def test_cumulative_counts_of_a_stream_are_not_added_up() -> None:
    """langchain-ai/langchainjs#10249, envoyproxy/ai-gateway#2279: cache tokens counted twice, in start and delta."""
    told = {"input_tokens": 9, "cache_read_input_tokens": 1, "cache_creation_input_tokens": 0, "output_tokens": 0}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "usage": told}},
        {"type": "message_delta", "delta": {}, "usage": {**told, "output_tokens": 16}},
    ]
    tokens = provider_of("anthropic").usage(events).tokens
    assert (tokens.input, tokens.cache_read, tokens.output) == (10, 1, 16)


def test_more_cached_than_input_gives_no_negative_tokens() -> None:
    """QuantumNous/new-api#5003: the ledger credited the user; earendil-works/pi#2048: OpenRouter, input -6,452."""
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 6457}}
    said = usage_fields("openrouter", "x-ai/grok-4", chat(usage))
    assert said["input_tokens"] == 6462
    assert said["cache_read_input_tokens"] == 6457
    assert said["estimated"] is True


def test_cached_tokens_are_found_where_gateways_put_them() -> None:
    """BerriAI/litellm#11789: read from the cache, charged as fresh input, ten times too much when streamed."""
    usage = {
        "prompt_tokens": 2459,
        "completion_tokens": 23,
        "total_tokens": 2482,
        "prompt_tokens_details": {"cached_tokens": 0},
        "cache_read_input_tokens": 2455,
        "cache_creation_input_tokens": 0,
    }
    tokens = provider_of("some gateway").usage(chat(usage)).tokens
    assert (tokens.input, tokens.cache_read) == (2459, 2455)


def test_cache_writes_are_not_dropped() -> None:
    """BerriAI/litellm#33772: cache writes dropped."""
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 17, "cache_read_input_tokens": 32651, "output_tokens": 9}
    tokens = provider_of("anthropic").usage({"type": "message", "usage": usage}).tokens
    assert (tokens.input, tokens.cache_creation, tokens.cache_read) == (32671, 17, 32651)


def test_gemini_s_thoughts_are_billed() -> None:
    """QuantumNous/new-api#1103: Gemini reasoning 89.8 % unbilled."""
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 102, "thoughtsTokenCount": 898, "totalTokenCount": 1010}
    assert provider_of("gemini").usage({"candidates": [], "usageMetadata": usage}).tokens.output == 1000


def test_a_response_that_is_read_again_has_the_same_event_id() -> None:
    """BerriAI/litellm#17814, #15740, #25015: every retrieval is billed again, no stable id to tell."""
    usage = {"input_tokens": 121, "output_tokens": 400, "total_tokens": 521}
    response = {"id": "resp_1", "object": "response", "model": "gpt-4.1", "usage": usage}
    first, second = (usage_fields("openai", "gpt-4.1", dict(response)) for _ in range(2))
    assert first == second
    assert first["event_id"] != usage_fields("openai", "gpt-4.1", {**response, "id": "resp_2"})["event_id"]


def test_a_response_that_is_still_being_made_is_refused() -> None:
    """BerriAI/litellm#25015: polling a background response."""
    with pytest.raises(Rejected, match="usage"):
        usage_fields("openai", "o3", {"id": "resp_1", "object": "response", "status": "in_progress", "usage": None})


def test_a_server_that_gives_every_response_the_same_id_loses_none() -> None:
    one = usage_fields("openai", "m", chat({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}))
    two = usage_fields("openai", "m", chat({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}))
    assert one["event_id"] != two["event_id"]
    local = usage_fields("ollama", "m", chat({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}))
    assert "event_id" not in local


def test_the_service_tier_is_the_one_that_was_served() -> None:
    """BerriAI/litellm#27588: service tier flex."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    assert usage_fields("openai", "o3", chat(usage, service_tier="flex"))["service_tier"] == "flex"
    assert "service_tier" not in usage_fields("openai", "o3", chat(usage, service_tier="default"))
    assert "service_tier" not in usage_fields("openai", "o3", chat(usage, service_tier="auto"))


def test_what_a_router_charged_is_kept_beside_our_own_price() -> None:
    """theexperiencecompany/gaia PR 1137: a flat price under-stated OpenRouter spend by 44 %."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": 1.4e-07}
    assert usage_fields("openrouter", "m", chat(usage))["reported_cost"] == {"amount": "0.000000140", "currency": "USD"}


def test_where_the_library_would_bill_reasoning_twice_the_total_judges() -> None:
    """genai-prices 0.2.3 adds xAI's reasoning whatever the total says."""
    usage = {
        "prompt_tokens": 686,
        "completion_tokens": 123,
        "total_tokens": 809,
        "completion_tokens_details": {"reasoning_tokens": 112},
    }
    library = extract_usage({"model": "grok-4", "usage": usage}, provider_id="x-ai", api_flavor="chat")
    assert library.usage.output_tokens == 235
    assert provider_of("xai").usage(chat(usage)).tokens.output == 123


def test_where_the_library_does_not_see_a_cache_hit_it_is_found() -> None:
    """genai-prices 0.2.3 looks for DeepSeek's hits in prompt_tokens_details only."""
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11, "prompt_cache_hit_tokens": 8}
    library = extract_usage({"model": "deepseek-chat", "usage": usage}, provider_id="deepseek", api_flavor="chat")
    assert not library.usage.cache_read_tokens
    assert provider_of("deepseek").usage(chat(usage)).tokens.cache_read == 8
