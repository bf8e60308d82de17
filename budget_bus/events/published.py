"""The JSON Schema of every event, made from its model; `python -m budget_bus.publish` writes them to schemas/."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from budget_bus.events import topics
from budget_bus.events.checks import CheckRequested, CheckResponse
from budget_bus.events.facts import BudgetAlert, BudgetChanged, BudgetUpdated
from budget_bus.events.fields import MAX_TAGS
from budget_bus.events.holds import HoldExtended, HoldReleased
from budget_bus.events.usage import UsageRecorded

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Not every validator knows \p{Cc}; these ranges are all of its characters.
_PORTABLE = {r"^[^\p{Cc}]*$": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
# pydantic leaves the bounds behind a before-validator under its own names, which no other validator heeds.
_KEYWORDS = {"ge": "minimum", "le": "maximum"}
# pydantic would publish "a number or any string"; the contract is a decimal string, so that no float touches money.
_AMOUNT = {"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,9})?$"}


@dataclass(frozen=True, slots=True)
class Published:
    """
    One event in one version. Ours (`serialization`) always carry every field; what others send us (`validation`)
    may leave out those that have a default. *rules* are what the model checks between fields, as far as JSON
    Schema can say it.
    """

    topic: str
    version: int
    model: type[BaseModel]
    mode: Literal["validation", "serialization"]
    rules: tuple[dict[str, Any], ...] = ()

    @property
    def file(self) -> str:
        return f"{self.topic}.v{self.version}.json"

    def schema(self) -> dict[str, Any]:
        made = refined(self.model.model_json_schema(mode=self.mode), self.rules)
        return {"$schema": DIALECT, "$id": f"urn:budget-bus:{self.topic}:v{self.version}", **made}


def refined(made: dict[str, Any], rules: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """A schema of pydantic's with what it leaves out: what is checked between fields, and how tags are bounded."""
    made = portable(made)
    if "tags" in made.get("properties", {}):
        made["properties"]["tags"]["maxProperties"] = MAX_TAGS
    if "Unused" in made.get("$defs", {}):
        unused = made["$defs"]["Unused"]["properties"]
        unused["cost"] = {**_AMOUNT, "default": unused["cost"]["default"]}
    if "Amount" in made.get("$defs", {}):
        made["$defs"]["Amount"] = amount(made["$defs"]["Amount"])
    return {**made, "allOf": list(rules)} if rules else made


def amount(made: dict[str, Any]) -> dict[str, Any]:
    """The schema of an amount of money, which is written as a decimal string."""
    return {**made, "properties": {**made["properties"], "amount": dict(_AMOUNT)}}


def _given(field: str) -> dict[str, Any]:
    return {"required": [field], "properties": {field: {"not": {"type": "null"}}}}


USAGE_RULES = (
    {"anyOf": [_given("input_tokens"), _given("input_text")]},
    {"anyOf": [_given("output_tokens"), _given("output_text")]},
)
CHECK_RULES = (
    {"oneOf": [_given("estimated_tokens"), _given("input_tokens"), _given("input_text")]},
    {"not": {"allOf": [_given("estimated_tokens"), _given("max_output_tokens")]}},
)

PUBLISHED: tuple[Published, ...] = (
    Published(topics.USAGE_RECORDED, 1, UsageRecorded, "validation", USAGE_RULES),
    Published(topics.CHECK_REQUESTED, 1, CheckRequested, "validation", CHECK_RULES),
    Published(topics.CHECK_RESPONSE, 1, CheckResponse, "serialization"),
    Published(topics.HOLD_RELEASED, 1, HoldReleased, "validation"),
    Published(topics.HOLD_EXTENDED, 1, HoldExtended, "validation"),
    Published(topics.BUDGET_ALERTS, 1, BudgetAlert, "serialization"),
    Published(topics.BUDGET_UPDATES, 1, BudgetUpdated, "serialization"),
    Published(topics.BUDGET_CHANGES, 1, BudgetChanged, "serialization"),
)


def portable(node: Any) -> Any:
    """Say what pydantic means in words that every validator of the dialect knows."""
    if isinstance(node, list):
        return [portable(item) for item in node]
    if not isinstance(node, dict):
        return node
    said = {_KEYWORDS.get(key, key): portable(value) for key, value in node.items()}
    if said.get("pattern") in _PORTABLE:
        said["pattern"] = _PORTABLE[said["pattern"]]
    for pattern in _PORTABLE.keys() & said.get("patternProperties", {}).keys():
        # A key outside the pattern would not be looked at; the model refuses it.
        said["additionalProperties"] = said.pop("patternProperties")[pattern]
        said["propertyNames"] = {**said.get("propertyNames", {}), "pattern": _PORTABLE[pattern]}
    return said


def rendered() -> dict[str, str]:
    """File name -> text of every schema, as schemas/ should hold it."""
    return {event.file: json.dumps(event.schema(), indent=2, ensure_ascii=False) + "\n" for event in PUBLISHED}
