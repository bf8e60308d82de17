"""Groups of equivalent models: what is taken, what is refused and why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.errors import Rejected
from budget_bus.policy.equivalents import MAX_GROUPS, parse_equivalents

GPT, CLAUDE = "openai/gpt-4o", "anthropic/claude-sonnet-4-5"


def many(count: int, *, start: int = 0) -> list[str]:
    return [f"p/m{number}" for number in range(start, start + count)]


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        pytest.param([], [], id="no groups at all"),
        pytest.param([[GPT, CLAUDE]], [[GPT, CLAUDE]], id="two models, in the order given"),
        pytest.param([["Azure OpenAI/gpt-4o", GPT]], [["azure/gpt-4o", GPT]], id="an alias gets its stored name"),
        pytest.param([[" OpenAI / gpt-4o ", CLAUDE]], [[GPT, CLAUDE]], id="outer spaces do not matter"),
        pytest.param(
            [["openrouter/openai/gpt-4o", GPT]], [["openrouter/openai/gpt-4o", GPT]], id="a slash in a model's name"
        ),
        pytest.param([["p/GPT", "p/gpt"]], [["p/GPT", "p/gpt"]], id="the case of a model matters"),
        pytest.param([many(20)], [many(20)], id="twenty models"),
        pytest.param([["p/" + "m" * 200, GPT]], [["p/" + "m" * 200, GPT]], id="a name of 200 characters"),
    ],
)
def test_what_is_taken(raw: Any, kept: list[list[str]]) -> None:
    names = {"Azure OpenAI": "azure", "OpenAI": "openai"}
    assert parse_equivalents(raw, provider_name=lambda name: names.get(name, name)) == kept


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        pytest.param(None, "must be a list of lists", id="nothing"),
        pytest.param(GPT, "must be a list of lists", id="one model"),
        pytest.param([GPT, CLAUDE], "must be a list of lists", id="a list of models"),
        pytest.param({"a": [GPT]}, "must be a list of lists", id="an object"),
        pytest.param([[GPT]], "[0] has 1 models; a group has 2 to 20", id="a model alone"),
        pytest.param([[]], "[0] has 0 models", id="an empty group"),
        pytest.param([many(2), many(21, start=2)], "[1] has 21 models", id="twenty-one models"),
        pytest.param([["gpt-4o", CLAUDE]], '[0][0] must be "provider/model"', id="no provider"),
        pytest.param([[GPT, 4]], '[0][1] must be "provider/model"', id="a number"),
        pytest.param([["/gpt-4o", CLAUDE]], "[0][0]: a provider's name", id="an empty provider"),
        pytest.param([["openai/ ", CLAUDE]], "[0][0]: a model's name", id="a blank model"),
        pytest.param([["p/" + "m" * 201, CLAUDE]], "[0][0]: a model's name has 1 to 200", id="a name of 201"),
        pytest.param([["p/a\x00", CLAUDE]], "no control characters", id="a NUL, which no table keeps"),
        pytest.param([["p/\ud800", CLAUDE]], "no control characters", id="half a character"),
        pytest.param([[GPT, GPT]], f"[0][1]: {GPT} is at [0][0] already", id="a model twice in a group"),
        pytest.param([[GPT, CLAUDE], [CLAUDE, "p/m"]], "[1][0]: ", id="a model in two groups"),
        pytest.param([["p/m", " p / m"]], "[0][1]: p/m is at [0][0]", id="a model twice in two spellings"),
        pytest.param([many(2, start=2 * n) for n in range(MAX_GROUPS + 1)], "has 201 groups", id="too many groups"),
    ],
)
def test_what_is_refused_names_the_value_and_the_fix(raw: Any, says: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_equivalents(raw)
    (error,) = caught.value.errors
    assert error.field == "value"
    assert says in error.message


def test_a_model_under_two_names_of_one_provider_is_one_model() -> None:
    with pytest.raises(Rejected, match="google/gemini is at"):
        parse_equivalents([["gemini/gemini", "google/gemini"]], provider_name=lambda _: "google")


_names = st.text("abc/ .-", min_size=1, max_size=5).filter(lambda name: name.strip() not in ("", "/"))
_models = st.builds("{}/{}".format, st.sampled_from(["openai", "x ai", "p"]), _names)


@given(st.lists(st.lists(_models, min_size=2, max_size=4), max_size=4))
def test_what_is_kept_is_read_again_as_itself_and_names_no_model_twice(raw: list[list[str]]) -> None:
    try:
        kept = parse_equivalents(raw)
    except Rejected:
        return
    assert parse_equivalents(kept) == kept
    models = [model for group in kept for model in group]
    assert len(set(models)) == len(models) == sum(map(len, raw))
