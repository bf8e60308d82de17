"""schemas/ and the API reference say what the models say, and the guard that compares them can see a difference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from openapi_spec_validator import validate
from pydantic import BaseModel, create_model

from budget_bus import publish
from budget_bus.events import published
from budget_bus.events.topics import INBOUND, TOPICS, dead_letter_topic
from budget_bus.events.usage import UsageRecorded
from budget_bus.http.app import ENDPOINTS

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "schemas"


def test_what_is_published_is_what_the_models_say() -> None:
    assert publish.drift(ROOT) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("schemas", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def test_a_tampered_schema_is_seen(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = copy / "schemas" / "usage.recorded.v1.json"
    schema = json.loads(file.read_text())
    schema["required"].remove("component")
    file.write_text(json.dumps(schema, indent=2) + "\n")
    assert publish.main(["--check", "--root", str(copy)]) == 1
    assert "schemas/usage.recorded.v1.json: differs from its model" in capsys.readouterr().err


def test_an_edited_reference_is_seen(copy: Path) -> None:
    file = copy / "docs" / "api_reference.md"
    file.write_text(file.read_text().replace("| 200 |", "| 201 |", 1))
    assert publish.drift(copy) == ["docs/api_reference.md: differs from its model"]


def test_a_changed_model_is_seen(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wider: type[BaseModel] = create_model("UsageRecorded", __base__=UsageRecorded, mood=(str, ...))
    changed = published.Published("usage.recorded", 1, wider, "validation", published.PUBLISHED[0].rules)
    monkeypatch.setattr(published, "PUBLISHED", (changed, *published.PUBLISHED[1:]))
    assert "schemas/usage.recorded.v1.json: differs from its model" in publish.drift(copy)


def test_a_missing_and_an_orphaned_schema_are_seen(copy: Path) -> None:
    (copy / "schemas" / "hold.released.v1.json").rename(copy / "schemas" / "hold.forgotten.v1.json")
    assert publish.drift(copy) == [
        "schemas/hold.forgotten.v1.json: belongs to no event",
        "schemas/hold.released.v1.json: is missing",
    ]


def test_publishing_mends_what_the_check_found(copy: Path) -> None:
    (copy / "schemas" / "hold.released.v1.json").write_text("{}")
    (copy / "docs" / "api_reference.md").unlink()
    assert publish.main(["--root", str(copy)]) == 0
    assert publish.main(["--check", "--root", str(copy)]) == 0


def test_every_topic_has_a_schema_and_every_schema_a_topic() -> None:
    # A dead letter is the raw bytes of what could not be read, so its topic has no schema.
    wanted = {spec.name for spec in TOPICS} - {dead_letter_topic(topic) for topic in INBOUND}
    assert {event.topic for event in published.PUBLISHED} == wanted
    assert {json.loads(file.read_text())["$id"].split(":")[2] for file in SCHEMAS.glob("*.v*.json")} == wanted


@pytest.mark.parametrize("event", published.PUBLISHED, ids=lambda event: event.file)
def test_a_schema_is_valid_in_its_dialect(event: published.Published) -> None:
    schema = event.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == published.DIALECT


@pytest.mark.parametrize("event", published.PUBLISHED, ids=lambda event: event.file)
def test_a_schema_uses_only_words_that_every_validator_knows(event: published.Published) -> None:
    text = json.dumps(event.schema())
    assert r"\\p{" not in text
    assert '"ge"' not in text
    assert '"le"' not in text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({"component": "a\x07b"}, "does not match", id="a control character in a name"),
        pytest.param({"input_tokens": 1_000_000_001}, "greater than the maximum", id="more tokens than the bound"),
        pytest.param({"tags": {"a\x07": "x"}}, "does not match", id="a control character in a tag's name"),
        pytest.param(
            {"reported_cost": {"amount": 0.1, "currency": "USD"}}, "not of type 'string'", id="money as a float"
        ),
    ],
)
def test_a_schema_alone_refuses(change: dict[str, Any], why: str) -> None:
    event = {"component": "c", "provider": "p", "model": "m", "input_tokens": 1, "output_tokens": 1, **change}
    with pytest.raises(jsonschema.ValidationError, match=why):
        jsonschema.validate(event, published.PUBLISHED[0].schema())


def test_the_openapi_document_is_one_and_names_each_operation_once() -> None:
    document = json.loads((SCHEMAS / "openapi.json").read_text())
    validate(document)
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(ENDPOINTS) == len({*names})
    assert all(operation["summary"] and operation["description"] for operation in operations)


def test_the_rules_between_fields_are_in_the_openapi_document_too() -> None:
    schemas = json.loads((SCHEMAS / "openapi.json").read_text())["components"]["schemas"]
    assert schemas["CheckBody"]["allOf"] == list(published.CHECK_RULES)
    assert schemas["UsageRecorded"]["allOf"] == list(published.USAGE_RULES)
    assert schemas["Amount"]["properties"]["amount"]["type"] == "string"


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _references(item)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())
    found = [*_references(document)]
    assert len(found) > len(TOPICS)
    for reference in found:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node


def test_the_asyncapi_document_has_every_topic_with_the_schema_that_is_published() -> None:
    document = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text())
    assert {*document["channels"]} == {*document["operations"]} == {spec.name for spec in TOPICS}
    for event in published.PUBLISHED:
        payload = document["components"]["messages"][f"{event.topic}.v{event.version}"]["payload"]
        assert payload["properties"].keys() == event.schema()["properties"].keys()
        assert payload.get("allOf", []) == list(event.rules)
