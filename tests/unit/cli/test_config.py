"""What is typed after `budget config set KEY`: JSON, or bare text."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from budget_bus.cli.config import parse_value


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        pytest.param("HARD_LIMIT", "HARD_LIMIT", id="bare text"),
        pytest.param('"HARD_LIMIT"', "HARD_LIMIT", id="text as JSON"),
        pytest.param('[["a/b", "c/d"]]', [["a/b", "c/d"]], id="a list"),
        pytest.param("12", 12, id="a number"),
        pytest.param("true", True, id="a truth value"),
        pytest.param("NaN", "NaN", id="what is no JSON is text, also if Python would take it"),
        pytest.param("", "", id="nothing"),
        pytest.param("[[", None, id="the beginning of a list"),
        pytest.param(" {a: 1}", None, id="an object whose quotes the shell took"),
    ],
)
def test_json_is_read_and_the_rest_is_text(typed: str, value: Any) -> None:
    if value is None:
        with pytest.raises(typer.BadParameter, match="is not JSON"):
            parse_value(typed)
    else:
        assert parse_value(typed) == value
