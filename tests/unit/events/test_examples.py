"""The golden examples: what the schemas and the models take and refuse, for components in any language."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from budget_bus.errors import Rejected
from budget_bus.events.decode import decode
from budget_bus.events.published import PUBLISHED

EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples"
EVENTS = {event.topic: event for event in PUBLISHED}

FORMATS = jsonschema.FormatChecker()


@FORMATS.checks("date-time", raises=ValueError)
def _rfc3339(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def refusals(topic: str, example: Any) -> list[str]:
    validator = jsonschema.Draft202012Validator(EVENTS[topic].schema(), format_checker=FORMATS)
    return [error.message for error in validator.iter_errors(example)]


def _good() -> list[Any]:
    return [
        pytest.param(topic, file, id=f"{topic}/{file.stem}")
        for topic in EVENTS
        for file in sorted((EXAMPLES / topic / "good").glob("*.json"))
    ]


def _bad() -> list[Any]:
    return [
        pytest.param(topic, EXAMPLES / topic / "bad" / name, told, id=f"{topic}/{name}: {told['why']}")
        for topic in EVENTS
        for name, told in json.loads((EXAMPLES / topic / "bad.json").read_text()).items()
    ]


@pytest.mark.parametrize(("topic", "file"), _good())
def test_a_good_example_passes_the_schema_and_the_model(topic: str, file: Path) -> None:
    raw = file.read_bytes()
    assert refusals(topic, json.loads(raw)) == []
    assert isinstance(decode(EVENTS[topic].model, raw), EVENTS[topic].model)


@pytest.mark.parametrize(("topic", "file", "told"), _bad())
def test_a_bad_example_is_refused_by_name_of_its_field(topic: str, file: Path, told: dict[str, Any]) -> None:
    raw = file.read_bytes()
    with pytest.raises(Rejected) as refused:
        decode(EVENTS[topic].model, raw)
    assert told["field"] in [error.field for error in refused.value.errors]
    assert bool(refusals(topic, json.loads(raw))) is told["schema_refuses"]


@pytest.mark.parametrize("topic", EVENTS)
def test_every_topic_has_both_kinds_and_every_bad_one_stands_in_the_index(topic: str) -> None:
    index = json.loads((EXAMPLES / topic / "bad.json").read_text())
    assert {file.name for file in (EXAMPLES / topic / "bad").iterdir()} == set(index)
    assert list((EXAMPLES / topic / "good").glob("*.json"))


def test_no_examples_belong_to_an_unknown_topic() -> None:
    # Raw responses of providers are no messages: tests/unit/providers/test_vectors.py reads them.
    assert {folder.name for folder in EXAMPLES.iterdir()} - {"usage"} == set(EVENTS)


@pytest.mark.parametrize("event", [event for event in PUBLISHED if event.mode == "serialization"], ids=lambda e: e.file)
def test_what_a_model_writes_passes_its_schema(event: Any) -> None:
    raw = next((EXAMPLES / event.topic / "good").glob("*.json")).read_bytes()
    written = decode(event.model, raw).model_dump_json()
    assert refusals(event.topic, json.loads(written)) == []
