"""Two price tables beside each other: names, classes, tiers, what agrees, and what is counted once."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from budget_bus.errors import ConfigError
from budget_bus.money import PicosPerToken
from budget_bus.policy.pricing import Price, PriceStatus, Rate
from budget_bus.providers.comparison import compare, figures_of, share_of, shares_by_provider, told_once, within
from budget_bus.providers.second_table import read_second_table

AT = datetime(2026, 11, 24, 2, 30, tzinfo=UTC)


def rate(picos: int, *tiers: tuple[int, int]) -> Rate:
    return Rate(PicosPerToken(picos), tuple((start, PicosPerToken(price)) for start, price in tiers))


def table(**fields: object) -> str:
    # Written by hand, because a float would already have lost what the test is about.
    return json.dumps({"openai/gpt-4o": {"litellm_provider": "openai", "mode": "chat", **fields}})


@pytest.mark.parametrize(
    ("key", "provider", "named"),
    [
        pytest.param("gemini/g", "gemini", ("google", "g", False), id="Gemini is google"),
        pytest.param("vertex_ai/c", "vertex_ai-anthropic_models", ("google", "c", False), id="so is all of Vertex"),
        pytest.param("c", "bedrock_converse", ("bedrock", "c", False), id="a key without a prefix is the model"),
        pytest.param("azure/eu/g", "azure", ("azure", "eu/g", True), id="a region in the key is marked"),
        pytest.param("eu.n", "bedrock", ("bedrock", "eu.n", True), id="also one before a dot"),
        pytest.param(
            "together_ai/meta-llama/L", "together_ai", ("together", "meta-llama/L", False), id="only the prefix goes"
        ),
    ],
)
def test_their_names_become_ours(key: str, provider: str, named: tuple[str, str, bool]) -> None:
    (row,) = read_second_table(json.dumps({key: {"litellm_provider": provider, "input_cost_per_token": 1}}))
    assert (row.provider, row.model, row.regional) == named


def test_numbers_are_read_without_a_float() -> None:
    text = '{"m": {"litellm_provider": "openai", "input_cost_per_token": 1.25e-06, "output_cost_per_token": 3.7e-08}}'
    (row,) = read_second_table(text)
    assert row.figures == {"input": 1_250_000, "output": 37_000}


def test_classes_context_sizes_and_service_tiers_are_told_apart() -> None:
    (row,) = read_second_table(
        table(
            cache_creation_input_token_cost=1,
            cache_creation_input_token_cost_above_1hr=2,
            input_cost_per_token_above_200k_tokens=3,
            output_cost_per_token_batches=4,
            input_cost_per_token_above_272k_tokens_flex=5,
            input_cost_per_character=6,
            deprecation_date="2027-01-31",
        )
    )
    whole = 10**12
    assert row.figures == {
        "cache_creation": whole,
        "cache_creation_1h": 2 * whole,
        "input above 200k": 3 * whole,
        "batch output": 4 * whole,
        "flex input above 272k": 5 * whole,
    }
    assert row.ends == date(2027, 1, 31)


@pytest.mark.parametrize("text", ["no json", "[]", '{"m": 1}'])
def test_what_is_not_the_table_is_refused_with_the_fix(text: str) -> None:
    with pytest.raises(ConfigError, match=r"second price table: .*give the file that is in litellm's wheel"):
        read_second_table(text)


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        pytest.param(100, 99, True, id="one percent is within"),
        pytest.param(1000, 989, False, id="a little more is not"),
        pytest.param(989, 1000, False, id="whichever is the larger"),
        pytest.param(0, 0, True, id="free agrees with free"),
        pytest.param(0, 1, False, id="free never agrees with a price"),
    ],
)
def test_within(one: int, other: int, agree: bool) -> None:
    assert within(one, other) is agree


def test_a_price_lists_only_its_own_classes() -> None:
    price = Price(input=rate(1, (200_000, 2)), output=rate(3), cache_read=rate(4))
    assert figures_of(price) == {"input": 1, "input above 200k": 2, "output": 3, "cache_read": 4}
    assert figures_of(price, "batch").keys() == {
        "batch input",
        "batch input above 200k",
        "batch output",
        "batch cache_read",
    }


def test_only_what_both_list_is_compared_and_a_borrowed_tier_is_not() -> None:
    prices = {
        "standard": Price(input=rate(10**12), output=rate(5)),
        "batch": Price(input=rate(7), output=rate(5)),
        "flex": Price(input=rate(10**12), output=rate(5), status=PriceStatus.FALLBACK),
    }
    second = read_second_table(
        table(
            input_cost_per_token=1,
            cache_read_input_token_cost=1,
            input_cost_per_token_batches=1,
            input_cost_per_token_flex=1,
        )
    )
    found = list(compare(second, lambda _provider, _model, _at, tier: prices.get(tier), AT))
    assert [(one.token_class, one.ours, one.agrees) for one in found] == [
        ("batch input", 7, False),
        ("input", 10**12, True),
    ]
    assert all(one.same_name for one in found)
    assert share_of(found) == (2, 1, 1)
    assert shares_by_provider(found) == {"openai": (2, 1, 1)}


def test_a_model_that_we_do_not_price_is_not_compared() -> None:
    assert not list(compare(read_second_table(table(input_cost_per_token=1)), lambda *_: None, AT))


def test_a_model_under_two_keys_counts_once_unless_the_keys_disagree() -> None:
    row = {"litellm_provider": "openai", "input_cost_per_token": 1, "output_cost_per_token": 1}
    other = {**row, "output_cost_per_token": 2}
    second = read_second_table(json.dumps({"gpt-4o": row, "openai/gpt-4o": other}))
    found = told_once(compare(second, lambda *_: Price(input=rate(1), output=rate(1)), AT))
    assert [one.token_class for one in found] == ["input", "output", "output"]


def test_the_kept_result_lists_every_disagreement_that_it_counts() -> None:
    kept = (Path(__file__).parents[3] / "bench/results/price-comparison.jsonl").read_text().splitlines()
    about, *listed = map(json.loads, kept)
    assert not [one for one in listed if within(one["ours"], one["theirs"])]
    for name, same in (("same_name", True), ("other_name", False)):
        share = about["shares"][name]
        assert share["compared"] - share["agree"] == sum(one["same_name"] is same for one in listed)
