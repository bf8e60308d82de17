"""docs/api_reference.md has every endpoint, topic, field and status of the documents, and can be found one's way in."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from budget_bus import reference
from budget_bus.reference import ErrorKind

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api_reference.md").read_text()
REST = json.loads((ROOT / "schemas" / "openapi.json").read_text())
BUS = yaml.safe_load((ROOT / "schemas" / "asyncapi.yaml").read_text())
OPERATIONS = {
    f"{method.upper()} {path}": said for path, methods in REST["paths"].items() for method, said in methods.items()
}
MOST_LINES = 3200


def section(title: str) -> str:
    """The text below a heading, up to the next one that is not below it."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,6}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"no heading {title!r}"
    return found[2]


def fields(text: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


@pytest.mark.parametrize("title", OPERATIONS)
def test_an_endpoint_has_its_parameters_and_statuses(title: str) -> None:
    text, said = section(title), OPERATIONS[title]
    assert fields(text) == {one["name"] for one in said["parameters"]}
    statuses = set(re.findall(r"^\| (\d{3}|any other) \|", text, re.MULTILINE))
    assert statuses == {"any other" if status == "default" else status for status in said["responses"]}


@pytest.mark.parametrize("name", REST["components"]["schemas"])
def test_a_model_is_told_once_with_all_of_its_fields(name: str) -> None:
    assert fields(section(name)) == set(REST["components"]["schemas"][name]["properties"])
    assert len(re.findall(rf"^#+ {name}$", PAGE, re.MULTILINE)) == 1


@pytest.mark.parametrize("topic", BUS["channels"])
def test_a_topic_has_its_key_its_headers_and_the_fields_of_its_message(topic: str) -> None:
    text = section(f"Topic {topic}")
    assert BUS["channels"][topic]["description"] in text
    (name,) = BUS["channels"][topic]["messages"]
    message = BUS["components"]["messages"][name]
    wanted = {*message.get("headers", {}).get("properties", ()), *message.get("payload", {}).get("properties", ())}
    if elsewhere := re.search(r"^(?:Value: |Headers and value are as on )\[([\w.]+)\]", text, re.MULTILINE):
        told = elsewhere[1] if elsewhere[1] in REST["components"]["schemas"] else f"Topic {elsewhere[1]}"
        text += section(told)
    assert fields(text) == wanted


def test_every_heading_can_be_linked_and_every_link_has_its_heading() -> None:
    counted = Counter(reference.anchor(title) for title in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE))
    assert [anchor for anchor, count in counted.items() if count > 1] == []
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) - counted.keys() == set()


def test_it_stays_readable() -> None:
    assert len(PAGE.splitlines()) < MOST_LINES


def test_it_is_the_same_each_time_and_ends_like_a_file() -> None:
    errors = [ErrorKind(404, "not-found", "it is not there")]
    once = reference.render(REST, BUS, errors)
    assert once == reference.render(json.loads(json.dumps(REST)), BUS, errors)
    assert once.endswith("\n")
    assert not once.endswith("\n\n")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        pytest.param({"type": "integer", "minimum": 1, "maximum": 1000}, "whole number, 1 to 1,000", id="both bounds"),
        pytest.param({"type": "number", "minimum": 0}, "number, at least 0", id="one bound"),
        pytest.param(
            {"type": "string", "maxLength": 9, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"},
            "text, at most 9 characters",
            id="a text without control characters, which is any name",
        ),
        pytest.param({"type": "string", "pattern": "^[A-Z]{3}$"}, "text, as `^[A-Z]{3}$`", id="a pattern"),
        pytest.param({"enum": ["a", "b"], "type": "string"}, '`"a"`, `"b"`', id="names"),
        pytest.param({"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]}, "UUID or null", id="or null"),
        pytest.param(
            {"anyOf": [{"type": "number"}, {"type": "string"}], "minimum": 0},
            "number, at least 0, or text",
            id="a bound is the number's, not the text's",
        ),
        pytest.param(
            {"type": "array", "items": {"$ref": "#/components/schemas/Live"}, "minItems": 1, "maxItems": 3},
            "list of [Live](#live), 1 to 3 of them",
            id="a list of a model",
        ),
        pytest.param(
            {"type": "object", "additionalProperties": {"type": "string", "maxLength": 2}, "maxProperties": 32},
            "object of (text, at most 2 characters), at most 32 of them",
            id="tags",
        ),
        pytest.param({}, "anything", id="nothing said"),
    ],
)
def test_a_type_in_words(schema: dict[str, Any], words: str) -> None:
    assert reference._type(schema) == words
