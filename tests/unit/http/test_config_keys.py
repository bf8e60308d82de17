"""The run-time settings: which there are, what they may be, and what holds when nobody has set them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from budget_bus.errors import NotFound, Rejected
from budget_bus.http.config_keys import KEYS, find_key
from budget_bus.settings import load_settings


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.name)
def test_a_default_is_a_value_that_could_be_set(key: Any) -> None:
    assert key.read(key.default) == key.default
    assert key.description


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        pytest.param("enforcement_level", "HARD_LIMIT", "HARD_LIMIT", id="a policy"),
        pytest.param("enforcement_level", " soft_limit ", "SOFT_LIMIT", id="a policy in lower case"),
        pytest.param("breaker", " Both ", "both", id="what trips the breaker"),
        pytest.param("breaker_pause_s", 60, 60, id="a minute"),
        pytest.param(
            "equivalents", [["x_ai/grok-4", "Gemini/g"]], [["xai/grok-4", "google/g"]], id="providers by stored names"
        ),
    ],
)
def test_what_is_kept_of_a_value(name: str, given: Any, kept: Any) -> None:
    assert find_key(name).read(given) == kept


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        pytest.param("enforcement_level", "STRICT", "IGNORE, WARN, SOFT_LIMIT, HARD_LIMIT", id="no such policy"),
        pytest.param("enforcement_level", None, "must be one of", id="null"),
        pytest.param("enforcement_level", 3, "must be one of", id="a number"),
        pytest.param("enforcement_level", ["WARN"], "must be one of", id="a list"),
        pytest.param("enforcement_level", {}, "must be one of", id="an object"),
        pytest.param("breaker", "silence", "off, velocity, loop, both", id="what never trips the breaker"),
        pytest.param("breaker", True, "must be one of", id="a breaker that is just on"),
        pytest.param("breaker_pause_s", 59, "from 60 to 604800", id="too short a pause"),
        pytest.param("breaker_pause_s", 604_801, "from 60 to 604800", id="too long a pause"),
        pytest.param("breaker_pause_s", True, "whole seconds", id="a pause that is just on"),
        pytest.param("breaker_pause_s", 90.5, "whole seconds", id="half a second"),
        pytest.param("equivalents", "openai/gpt-4o", "a list of lists", id="text for a list"),
        pytest.param("equivalents", [["gemini/g", "google/g"]], "google/g is at [0][0]", id="one model, two aliases"),
    ],
)
def test_a_wrong_value_is_named_with_the_fix(name: str, given: Any, says: str) -> None:
    with pytest.raises(Rejected) as caught:
        find_key(name).read(given)
    (error,) = caught.value.errors
    assert error.field == "value"
    assert says in error.message


@pytest.mark.parametrize("name", ["standing_limits", "ENFORCEMENT_LEVEL", "", "port"])
def test_another_key_is_not_there_and_the_answer_lists_those_that_are(name: str) -> None:
    with pytest.raises(NotFound, match="there are enforcement_level, equivalents"):
        find_key(name)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, ("WARN", "default"), id="nothing said"),
        pytest.param({"BUDGET_ENFORCEMENT_LEVEL": "IGNORE"}, ("IGNORE", "setting"), id="a setting"),
        pytest.param({"BUDGET_ENFORCEMENT_LEVEL": "WARN"}, ("WARN", "setting"), id="a setting that is the default"),
    ],
)
def test_without_a_run_time_value_the_setting_holds_else_the_default(
    environ: dict[str, str], expected: tuple[str, str]
) -> None:
    settings = load_settings(environ, env_file=Path(os.devnull))
    assert KEYS["enforcement_level"].unset(settings) == expected
    assert KEYS["equivalents"].unset(settings) == ([], "default")
