"""What a check sets aside: where each number comes from, and the same call at another size or with another model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.consumers import estimates
from budget_bus.consumers.estimates import Estimate, Estimator
from budget_bus.consumers.learning import Outputs
from budget_bus.events.checks import CheckRequested
from budget_bus.money import Nanos
from budget_bus.policy.pricing import PriceStatus
from budget_bus.providers.prices import PriceBook
from budget_bus.providers.tokens import count_tokens

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
BOOK = PriceBook()
LEARNT = Outputs({
    ("rhetor", "openai", "gpt-4o"): 3000,
    ("rhetor", "openai", "gpt-4o-mini"): 5000,
    ("rhetor", "openai", "o3"): 200,
    ("scribe", "openai", "gpt-4.1"): 9000,
})  # fmt: skip
ESTIMATOR = Estimator(BOOK, use_fallback_price=False, default_max_output_tokens=1024, outputs=LEARNT)


def question(**fields: Any) -> CheckRequested:
    values = {"component": "rhetor", "provider": "openai", "model": "gpt-4o", **fields}
    return CheckRequested(request_id=UUID("0198a8f0-0000-7000-8000-000000000001"), **values)


def estimate(**fields: Any) -> Estimate:
    return ESTIMATOR.estimate(question(**fields), "openai", at=NOW)


@pytest.mark.parametrize(
    ("fields", "output", "source"),
    [
        pytest.param({"max_output_tokens": 50}, 50, "input_tokens, max_output_tokens", id="a stated maximum"),
        pytest.param({}, 3000, "input_tokens, p99_output", id="what was learnt, if it is above the default"),
        pytest.param({"model": "o3"}, 1024, "input_tokens, default_max_output_tokens", id="the default, if that is"),
        pytest.param({"model": "gpt-4.1"}, 1024, "input_tokens, default_max_output_tokens", id="not another's habit"),
        pytest.param(
            {"model": "gpt-4.1", "component": "scribe"}, 9000, "input_tokens, p99_output", id="that component's own"
        ),
    ],
)
def test_the_output_that_is_set_aside(fields: dict[str, Any], output: int, source: str) -> None:
    found = estimate(input_tokens=100, **fields)
    assert (found.input_tokens, found.output_tokens, found.tokens) == (100, output, 100 + output)
    assert found.source == source


@pytest.mark.parametrize(
    ("ceiling", "fields", "output", "word"),
    [
        pytest.param(2000, {}, 2000, "model_maximum", id="below what was learnt"),
        pytest.param(1000, {"model": "o3"}, 1000, "model_maximum", id="below the default"),
        pytest.param(3000, {}, 3000, "p99_output", id="no lower than what was learnt"),
        pytest.param(2000, {"max_output_tokens": 9000}, 9000, "max_output_tokens", id="a stated one is left alone"),
    ],
)
def test_no_more_is_assumed_than_the_model_can_answer_with(
    monkeypatch: pytest.MonkeyPatch, ceiling: int, fields: dict[str, Any], output: int, word: str
) -> None:
    # The bundled data has no such number for any model yet.
    monkeypatch.setattr(estimates, "max_output_tokens", lambda provider, model: ceiling)
    found = estimate(input_tokens=100, **fields)
    assert (found.output_tokens, found.source) == (output, f"input_tokens, {word}")


def test_without_anything_learnt_the_default_is_taken() -> None:
    found = Estimator(BOOK, False, 77).estimate(question(input_tokens=1), "openai", at=NOW)
    assert (found.output_tokens, found.source) == (77, "input_tokens, default_max_output_tokens")


def test_of_a_bare_total_the_parts_are_unknown() -> None:
    found = estimate(estimated_tokens=1000)
    assert (found.tokens, found.input_tokens, found.output_tokens) == (1000, None, None)
    assert (found.source, found.cost) == ("estimated_tokens", 10_000_000)


def test_a_text_is_counted() -> None:
    found = estimate(input_text="How much is left?", max_output_tokens=10)
    assert found.input_tokens == count_tokens("openai", "gpt-4o", "How much is left?").tokens_upper
    assert found.source == "input_text (exact), max_output_tokens"


@given(tokens=st.integers(0, 10_000_000), stated=st.integers(1, 1_000_000) | st.none())
def test_another_output_is_priced_as_if_it_had_been_asked_for(tokens: int, stated: int | None) -> None:
    asked = question(input_tokens=500, max_output_tokens=stated)
    found = ESTIMATOR.with_output(asked, "openai", tokens, at=NOW)
    assert found is not None
    again = estimate(input_tokens=500, max_output_tokens=tokens)
    assert (found.tokens, found.cost, found.output_tokens) == (again.tokens, again.cost, tokens)


def test_a_text_need_not_be_counted_again_for_another_output() -> None:
    asked = question(input_text="x " * 50)
    counted = ESTIMATOR.with_output(asked, "openai", 10, at=NOW)
    known = ESTIMATOR.with_output(asked, "openai", 10, at=NOW, input_tokens=estimate(input_text="x " * 50).input_tokens)
    assert counted == known
    told = ESTIMATOR.with_output(asked, "openai", 10, at=NOW, input_tokens=7)
    assert told is not None
    assert told.input_tokens == 7


def test_a_bare_total_has_no_other_output() -> None:
    assert ESTIMATOR.with_output(question(estimated_tokens=1000), "openai", 10, at=NOW) is None


def test_elsewhere_a_stated_size_stays() -> None:
    found = ESTIMATOR.elsewhere(question(input_tokens=1000, max_output_tokens=100), "openai", "gpt-4o-mini", at=NOW)
    # 0.15 and 0.60 USD per million.
    assert (found.tokens, found.cost, found.price_status) == (1100, 150_000 + 60_000, PriceStatus.PRICED)


@pytest.mark.parametrize(
    ("model", "output"),
    [
        pytest.param("o3", 3000, id="no smaller than here, or it would only look cheaper"),
        pytest.param("gpt-4o-mini", 5000, id="what that model is known for, or its check would not fit"),
    ],
)
def test_elsewhere_the_output_is_no_smaller_than_either_model_s(model: str, output: int) -> None:
    found = ESTIMATOR.elsewhere(question(input_tokens=10), "openai", model, at=NOW)
    assert (found.output_tokens, found.tokens) == (output, 10 + output)
    own = estimate(input_tokens=10, model=model)
    assert found.cost is not None
    assert own.cost is not None
    assert found.cost >= own.cost


def test_elsewhere_a_text_is_counted_as_that_model_would() -> None:
    text = "What has a text in one vocabulary may be longer in another."
    found = ESTIMATOR.elsewhere(question(input_text=text, max_output_tokens=1), "anthropic", "claude-haiku-4-5", at=NOW)
    assert found.input_tokens == count_tokens("anthropic", "claude-haiku-4-5", text).tokens_upper
    assert found.source == "input_text (estimated), max_output_tokens"


def test_elsewhere_a_bare_total_stays_one() -> None:
    found = ESTIMATOR.elsewhere(question(estimated_tokens=1000), "openai", "gpt-4o-mini", at=NOW)
    assert (found.tokens, found.cost, found.output_tokens) == (1000, 600_000, None)


def test_elsewhere_without_a_price_there_is_no_cost() -> None:
    found = ESTIMATOR.elsewhere(question(estimated_tokens=1000), "openai", "never-heard-of", at=NOW)
    assert (found.cost, found.price_status) == (None, PriceStatus.UNPRICED)


def alternatives(at_most: int = 10**15, **fields: Any) -> dict[str, Estimate]:
    asked = question(**fields)
    return dict(ESTIMATOR.alternatives(asked, asked.provider, at=NOW, at_most=Nanos(at_most)))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"input_tokens": 1000, "max_output_tokens": 100}, id="numbers"),
        pytest.param({"input_text": "How much?"}, id="a text and an output that is assumed"),
        pytest.param({"estimated_tokens": 500}, id="a bare total"),
    ],
)
def test_each_alternative_is_the_same_call_elsewhere(fields: dict[str, Any]) -> None:
    found = alternatives(**fields)
    assert {"gpt-4o-mini", "o3", "gpt-4.1-nano"} <= set(found)
    assert "gpt-4o" not in found
    assert "text-embedding-3-small" not in found
    for model, there in found.items():
        assert there == ESTIMATOR.elsewhere(question(**fields), "openai", model, at=NOW)


# Gemini has dearer rates for large contexts, Perplexity a fee per request.
@given(
    fields=st.fixed_dictionaries(
        {
            "model": st.just("gemini-2.5-pro"),
            "provider": st.just("google"),
            "input_tokens": st.integers(0, 400_000),
            "max_output_tokens": st.integers(0, 10_000) | st.none(),
        }
    )
    | st.fixed_dictionaries(
        {
            "model": st.just("sonar-pro"),
            "provider": st.just("perplexity"),
            "estimated_tokens": st.integers(0, 300_000),
        }
    ),
    at_most=st.integers(0, 10**9),
)
def test_of_the_alternatives_only_and_all_those_within_an_amount_are_given(
    fields: dict[str, Any], at_most: int
) -> None:
    every = alternatives(**fields)
    within = {model: there for model, there in every.items() if there.cost is not None and there.cost <= at_most}
    assert alternatives(at_most, **fields) == within


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        pytest.param({"input_tokens": 128_000, "max_output_tokens": 9}, True, id="as large as its context"),
        pytest.param({"input_tokens": 128_001, "max_output_tokens": 9}, False, id="one more"),
        pytest.param({"estimated_tokens": 128_001}, False, id="a total that may all be input"),
    ],
)
def test_a_model_that_cannot_take_the_input_is_no_alternative(fields: dict[str, Any], window: bool) -> None:
    found = alternatives(model="gpt-5", **fields)
    assert ("gpt-4o-mini" in found) is window
    assert "gpt-4.1-mini" in found


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"model": "text-embedding-3-large", "input_tokens": 10}, id="embeddings"),
        pytest.param({"model": "never-heard-of", "input_tokens": 10}, id="a model that nobody knows"),
        pytest.param({"input_tokens": 10, "input_audio_tokens": 5}, id="a call with audio"),
        pytest.param({"provider": "ollama", "model": "llama3", "input_tokens": 10}, id="a local model"),
    ],
)
def test_what_is_not_a_priced_text_call_has_no_alternatives(fields: dict[str, Any]) -> None:
    assert alternatives(**fields) == {}
