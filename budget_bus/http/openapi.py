"""The OpenAPI 3.1 document of the gateway, made from its endpoints and their models."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from budget_bus import __version__
from budget_bus.events.fields import MAX_BODY_BYTES
from budget_bus.events.published import CHECK_RULES, USAGE_RULES, amount, refined
from budget_bus.http.problems import MEDIA_TYPE, Problem
from budget_bus.http.query import Page, Query
from budget_bus.http.route import Endpoint

Mode = Literal["validation", "serialization"]

_REF: Final = "#/components/schemas/{model}"
_TAGS: Final = {
    "calls": "Ask before a call, record after it",
    "reading": "Look at usage, decisions, holds and alerts",
    "administering": "Set limits, prices and settings",
    "health": "For load balancers and Prometheus",
}
_RULES: Final[dict[str, Sequence[dict[str, Any]]]] = {"CheckBody": CHECK_RULES, "UsageRecorded": USAGE_RULES}
_PATH_PARAMETER: Final = re.compile(r"{(\w+)(?::\w+)?}")


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The document, with every model once under `components.schemas`."""
    listed = list(endpoints)
    schemas, shared = _schemas(listed)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in listed:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "budget_bus",
            "version": __version__,
            "summary": "Budgets of programs that call LLMs",
            "description": "Times are RFC 3339 in UTC, money is a decimal string with its currency beside it, and "
            f"errors are RFC 9457 problems. A body has at most {MAX_BODY_BYTES // 1024**2} MiB. Lists are paged by "
            "`cursor` and `page_size`. The topics are described at /asyncapi.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": name, "description": meaning} for name, meaning in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": shared,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Asked for if the gateway has a keys file; `x-role` is what a key needs",
                }
            },
            "responses": {
                "Problem": {
                    "description": "What is wrong, in words; `type` is a stable slug, `errors` names the fields",
                    "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
                }
            },
        },
    }


def _schemas(endpoints: list[Endpoint]) -> tuple[dict[tuple[Any, str], Any], dict[str, Any]]:
    """Each (type, mode) -> its schema, and what these refer to by name."""
    wanted: dict[tuple[Any, Mode], TypeAdapter[Any]] = {(Problem, "serialization"): TypeAdapter(Problem)}
    for endpoint in endpoints:
        if endpoint.body is not None and endpoint.body is not bytes:
            wanted[endpoint.body, "validation"] = TypeAdapter(endpoint.body)
        for model in endpoint.answers.values():
            if model is not None:
                wanted[model, "serialization"] = TypeAdapter(model)
    inputs = [(key, key[1], adapter) for key, adapter in wanted.items()]
    found, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    shared = {}
    for name, schema in definitions.get("$defs", {}).items():
        plain = name.removesuffix("-Input")
        made = refined(schema, _RULES.get(plain, ()) if not name.endswith("-Output") else ())
        shared[name] = amount(made) if plain == "Amount" else made
    return {key[0]: refined(schema) for key, schema in found.items()}, dict(sorted(shared.items()))


def _operation(endpoint: Endpoint, schemas: dict[tuple[Any, str], Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation_id(endpoint),
        "summary": endpoint.summary,
        "description": _meaning(endpoint),
        "tags": list(endpoint.tags),
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint)],
        "responses": _responses(endpoint, schemas),
    }
    if endpoint.needs is not None:
        made["security"] = [{"key": []}]
        made["x-role"] = endpoint.needs.value
    if endpoint.body is not None:
        content = {"schema": {} if endpoint.body is bytes else schemas[endpoint.body, "validation"]}
        made["requestBody"] = {"required": not endpoint.optional, "content": dict.fromkeys(endpoint.consumes, content)}
    return made


def operation_id(endpoint: Endpoint) -> str:
    """The name of the operation: its handler's, which is the same as long as the handler is."""
    return f"{endpoint.handle.__module__.rsplit('.', 1)[-1]}.{endpoint.handle.__name__}"


def _meaning(endpoint: Endpoint) -> str:
    """
    The handler's docstring, and that of its query if it has one of its own; what is raised becomes problems, which are
    described once for all.
    """
    said = (inspect.getdoc(endpoint.handle) or endpoint.summary).split("\nRaises:")[0].strip()
    asked = "" if endpoint.query in (Query, Page) else inspect.getdoc(endpoint.query)
    return f"{said}\n\n{asked}" if asked else said


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    names = _PATH_PARAMETER.findall(endpoint.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    schema = refined(endpoint.query.model_json_schema(mode="validation"))
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _without_null(said)}
        for name, said in schema.get("properties", {}).items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is left out is null here; none can be written as null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    said = {key: value for key, value in schema.items() if key != "default" or value is not None}
    if kinds:
        del said["anyOf"]
        said |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return said


def _responses(endpoint: Endpoint, schemas: dict[tuple[Any, str], Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for status, model in endpoint.answers.items():
        made[str(status)] = {"description": HTTPStatus(status).phrase}
        if model is not None:
            text = {"schema": {"type": "string"}}
            made[str(status)]["content"] = {
                endpoint.produces: {"schema": schemas[model, "serialization"]},
                **dict.fromkeys(endpoint.also_produces, text),
            }
        elif status != 204:
            made[str(status)]["content"] = {endpoint.produces: {"schema": {"type": "string"}}}
    if endpoint.method == "GET":
        made["304"] = {"description": "As the ETag in If-None-Match says, nothing has changed"}
    made["default"] = {"$ref": "#/components/responses/Problem"}
    return made
