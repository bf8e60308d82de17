"""Counting tokens: exact for OpenAI, estimated with a bound for the rest, and unharmed by any text."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_bus.providers import tokens as counting
from budget_bus.providers.tokens import (
    CL100K,
    CLAUDE_FROM_4_7,
    CLAUDE_TO_4_6,
    LLAMA,
    O200K,
    UNKNOWN,
    TokenCount,
    Vocabulary,
    count_tokens,
    vocabulary_of,
)


@pytest.mark.parametrize(
    ("provider", "model", "vocabulary"),
    [
        ("openai", "gpt-4o-mini", O200K),
        ("openai", "gpt-4.1-nano", O200K),
        ("openai", "gpt-5-mini-2025-08-07", O200K),
        ("openai", "o3", O200K),
        ("openai", "o1-preview", O200K),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::x", O200K),
        ("groq", "openai/gpt-oss-120b", O200K),
        ("openrouter", "openai/gpt-4o", O200K),
        ("azure", "gpt-35-turbo", CL100K),
        ("openai", "gpt-4", CL100K),
        ("openai", "gpt-4-0613", CL100K),
        ("openai", "GPT-3.5-Turbo-1106", CL100K),
        ("openai", "text-embedding-3-small", CL100K),
        ("openai", "gpt-4evil", UNKNOWN),
        ("openai", "o3x", UNKNOWN),
        ("openai", "text-davinci-003", UNKNOWN),
        ("anthropic", "claude-3-opus-20240229", CLAUDE_TO_4_6),
        ("anthropic", "claude-2.1", CLAUDE_TO_4_6),
        ("anthropic", "claude-sonnet-4-20250514", CLAUDE_TO_4_6),
        ("anthropic", "claude-opus-4-6", CLAUDE_TO_4_6),
        ("bedrock", "us.anthropic.claude-3-5-sonnet-20241022-v2:0", CLAUDE_TO_4_6),
        ("openrouter", "anthropic/claude-haiku-4.5", CLAUDE_TO_4_6),
        ("anthropic", "claude-opus-4-7", CLAUDE_FROM_4_7),
        ("anthropic", "claude-opus-4-8", CLAUDE_FROM_4_7),
        ("anthropic", "claude-sonnet-5", CLAUDE_FROM_4_7),
        ("anthropic", "some-new-name", CLAUDE_FROM_4_7),
        ("ollama", "llama3.1:8b", LLAMA),
        ("groq", "llama-3.3-70b-versatile", LLAMA),
        ("google", "gemini-1.5-pro", UNKNOWN),
        ("acme", "x", UNKNOWN),
    ],
)
def test_a_model_s_name_picks_its_vocabulary(provider: str, model: str, vocabulary: Vocabulary) -> None:
    assert vocabulary_of(provider, model) is vocabulary


# The counts that toktok documents, which are those of OpenAI's own tiktoken.
@pytest.mark.parametrize(
    ("model", "text", "count"),
    [
        pytest.param("gpt-4o", "hello world", 2, id="o200k_base"),
        pytest.param("gpt-4", "hello world", 2, id="cl100k_base"),
        pytest.param("gpt-4", "how many tokens?", 4, id="punctuation"),
        pytest.param("gpt-4o", "<|endoftext|>", 7, id="a special string is plain text"),
        pytest.param("gpt-4o", "", 0, id="nothing is nothing"),
    ],
)
def test_openai_counts_are_exact(model: str, text: str, count: int) -> None:
    assert count_tokens("openai", model, text) == TokenCount(count, "exact", None, count)


def test_estimates_say_so_and_name_their_error() -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 20
    base = count_tokens("openai", "gpt-4o", text).tokens
    old = count_tokens("anthropic", "claude-3-opus", text)
    assert (old.source, old.error_percent) == ("estimated", "11.7")
    assert old.tokens == round(base * 1.227) + 7
    assert old.tokens_upper >= old.tokens / (1 - 0.117)
    new = count_tokens("anthropic", "claude-opus-4-8", text)
    assert (new.error_percent, new.tokens > old.tokens) == ("17.9", True)
    assert count_tokens("ollama", "llama3", text).error_percent == "1"
    unknown = count_tokens("google", "gemini-1.5-pro", text)
    assert (unknown.source, unknown.error_percent) == ("estimated", None)
    assert unknown.tokens_upper > unknown.tokens


def test_text_outside_ascii_is_bounded_by_the_worst_factor_seen() -> None:
    count = count_tokens("anthropic", "claude-3-opus", "漢字仮名交じり文" * 100)
    assert count.tokens_upper > 2 * count.tokens


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "claude-3-opus"])
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\udc00\ud800" * 50], ids=["one", "within", "many"])
def test_a_lone_surrogate_is_counted_as_a_replacement(model: str, text: str) -> None:
    assert count_tokens("openai", model, text).tokens > 0


@settings(max_examples=50)
@given(st.text(alphabet=st.characters(exclude_categories=[])), st.sampled_from(["gpt-4o", "claude-3-opus", "gemini-x"]))
def test_any_text_has_a_count_and_a_bound_not_below_it(text: str, model: str) -> None:
    count = count_tokens("acme", model, text)
    assert 0 <= count.tokens <= count.tokens_upper
    assert (count.tokens == 0) == (text == "")


@pytest.mark.parametrize("piece", ["a", " ", "!", "\n", "1", "aA", "é", "字", "\ud800"])
def test_hostile_text_takes_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    count_tokens("anthropic", "claude-3-opus", piece)
    started = time.perf_counter()
    count_tokens("anthropic", "claude-3-opus", text)
    # Linear counting takes milliseconds; a quadratic one takes minutes.
    assert time.perf_counter() - started < 2


def test_no_vocabulary_is_loaded_before_the_first_count() -> None:
    code = f"import sys, {counting.__name__}; sys.exit('toktok' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
