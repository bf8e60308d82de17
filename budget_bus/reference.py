"""The OpenAPI and the AsyncAPI document -> docs/api_reference.md, for whoever reads instead of generating code."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Schema = Mapping[str, Any]

_MODEL = "#/components/schemas/"
_NO_CONTROL_CHARACTERS = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_FORMATS = {"uuid": "UUID", "date-time": "instant", "date": "day"}
_KINDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_DAY_MS = 24 * 3600 * 1000
_HEAD = """# API reference

<!-- Made by `python -m budget_bus.publish` from schemas/openapi.json and schemas/asyncapi.yaml: change the code. -->

All endpoints of the gateway and all topics, field by field. What to do with them is in the
[integration guide](integration_guide.md) and in [component_authors.md](component_authors.md). A running gateway shows
the same at `/docs` and `/asyncapi`, and gives the documents themselves at `/openapi.json` and `/asyncapi.json`.

* REST: {rest}
* Topics: {topics}

In the tables an *instant* is an RFC 3339 time with its zone and a *day* is `2026-01-31`. What is sent to the service
has a column *default*: a field without one may be left out. A parameter that is a list may be given several times. What
the service sends has every field, null where there is nothing to say; only [Problem](#problem) and
[Accepted](#accepted) leave such fields out. More fields may come; ignore those that you do not know.
"""
_OTHER_ERRORS = """Besides, a path that does not exist is 404 `not-found`, a method that a path does not have is 405
`method-not-allowed`, and what the page of another site sends is 403 `forbidden`, unless `BUDGET_CORS_ORIGINS` names it.
"""


class ErrorKind(NamedTuple):
    """One way in which a request can fail: status, slug of its problem, and what has happened."""

    status: int
    slug: str
    meaning: str


@dataclass(frozen=True, slots=True)
class _Page:
    """
    The documents; which models are told where they are used because nobody else uses them (`own`), and which of them
    are sent to the service (`sent`).
    """

    rest: Schema
    bus: Schema
    own: frozenset[str]
    sent: frozenset[str]

    @property
    def models(self) -> Schema:
        found: Schema = self.rest["components"]["schemas"]
        return found


def render(rest: Schema, bus: Schema, errors: Iterable[ErrorKind]) -> str:
    """The page, of an OpenAPI and an AsyncAPI document; equal documents give equal bytes."""
    page = _Page(rest, bus, _used_once(rest), _sent(rest))
    blocks = [
        _HEAD.format(rest=_line(rest["info"]["description"]), topics=_line(bus["info"]["description"])),
        *_contents(page),
        "## REST\n",
        *_errors(errors),
        *(block for tag in rest["tags"] for block in _tagged(page, tag)),
        "## Topics\n",
        *_topics(page),
        "## Models\n",
        "What several endpoints, topics or other models share.\n",
        *(block for name in _shared(page) for block in _model(page, name, "###")),
    ]
    return "\n".join(blocks)


def anchor(title: str) -> str:
    """How GitHub links to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _link(title: str, text: str | None = None) -> str:
    return f"[{text or title}](#{anchor(title)})"


def _operations(page: _Page, tag: str) -> Iterator[tuple[str, Schema]]:
    for path, methods in page.rest["paths"].items():
        for method, operation in methods.items():
            if operation["tags"][0] == tag:
                yield f"{method.upper()} {path}", operation


def _shared(page: _Page) -> list[str]:
    return [name for name in page.models if name not in page.own]


def _contents(page: _Page) -> Iterator[str]:
    lines = ["## Contents\n", f"* {_link('REST')}", f"  * {_link('Errors')}"]
    for tag in page.rest["tags"]:
        lines.append(f"  * {_link(tag['name'].capitalize())}")
        lines += [f"    * {_link(title)}: {said['summary']}" for title, said in _operations(page, tag["name"])]
    lines.append(f"* {_link('Topics')}")
    for topic in page.bus["channels"]:
        lines.append(f"  * {_link(f'Topic {topic}', topic)}: {page.bus['operations'][topic]['summary']}")
    lines.append(f"* {_link('Models')}: {', '.join(map(_link, _shared(page)))}")
    yield "\n".join(lines) + "\n"


def _errors(errors: Iterable[ErrorKind]) -> Iterator[str]:
    yield "### Errors\n"
    yield f"Every error is a {_link('Problem')}; a refused field is in its `errors`.\n"
    rows = [(str(one.status), f"`{one.slug}`", f"{one.meaning[:1].upper()}{one.meaning[1:]}") for one in errors]
    yield _table(("status", "`type`", "what has happened"), rows)
    yield _OTHER_ERRORS


def _tagged(page: _Page, tag: Schema) -> Iterator[str]:
    yield f"### {tag['name'].capitalize()}\n\n{tag['description']}.\n"
    for title, operation in _operations(page, tag["name"]):
        yield from _operation(page, title, operation)


def _operation(page: _Page, title: str, operation: Schema) -> Iterator[str]:
    yield f"#### {title}\n"
    yield f"**{_sentence(operation['summary'])}**\n"
    if operation["description"] != operation["summary"]:
        yield _paragraphs(operation["description"])
    if "x-role" in operation:
        yield f"A key needs the role `{operation['x-role']}`.\n"
    if operation["parameters"]:
        yield _table(("parameter", "in", "type", "default"), map(_parameter, operation["parameters"]))
    said = operation.get("requestBody")
    if said:
        media = " or ".join(f"`{name}`" for name in said["content"])
        kind = _type(next(iter(said["content"].values()))["schema"])
        yield f"Body, {media}{'' if said['required'] else ', may be left out'}: {kind}.\n"
    rows = [_response(status, told) for status, told in operation["responses"].items()]
    yield _table(("status", "answer"), rows)
    for name in _named(operation):
        if name in page.own:
            yield from _model(page, name, "#####")


def _parameter(one: Schema) -> tuple[str, ...]:
    return f"`{one['name']}`", one["in"], _type(one["schema"]), _default(one["schema"], required=one["required"])


def _response(status: str, told: Schema) -> tuple[str, str]:
    if status == "default":
        return "any other", _link("Problem")
    content = told.get("content")
    if not content:
        return status, told["description"] if status == "304" else "nothing"
    kinds = [_type(said["schema"]) if media == "application/json" else f"`{media}`" for media, said in content.items()]
    return status, " or ".join(kinds)


def _topics(page: _Page) -> Iterator[str]:
    told: dict[str, str] = {}
    for topic, channel in page.bus["channels"].items():
        operation = page.bus["operations"][topic]
        yield f"### Topic {topic}\n"
        yield f"**{_sentence(operation['summary'])}**\n"
        way = "components to the service" if operation["action"] == "receive" else "the service to whoever listens"
        yield f"From {way}. {channel['description']} {_kept(channel['bindings']['kafka'])}\n"
        if "reply" in operation:
            replied = operation["reply"]["channel"]["$ref"].rpartition("/")[2]
            yield f"The answer is on {_link(f'Topic {replied}', replied)}, unless a header names another topic.\n"
        (name,) = channel["messages"]
        if name in told:
            yield f"Headers and value are as on {_link(f'Topic {told[name]}', told[name])}.\n"
        else:
            told[name] = topic
            yield from _message(page, page.bus["components"]["messages"][name], sent=operation["action"] == "receive")


def _message(page: _Page, message: Schema, *, sent: bool) -> Iterator[str]:
    if "headers" in message:
        headers = message["headers"]["properties"].items()
        yield _table(("header", "meaning"), [(f"`{header}`", said["description"]) for header, said in headers])
    payload = message.get("payload")
    if payload is None:
        yield f"{_sentence(message['summary'])}\n"
    elif _is_model(page, payload):
        yield f"Value: {_link(payload['title'])}.\n"
    else:
        yield from _fields(page, payload, sent=sent)


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text.rstrip('.')}."


def _kept(kafka: Schema) -> str:
    made = f"{kafka['partitions']} partition" if "partitions" in kafka else "`BUDGET_KAFKA_PARTITIONS` partitions"
    if kafka.get("partitions", 1) > 1:
        made += "s"
    settings = kafka["topicConfiguration"]
    if "compact" in settings.get("cleanup.policy", ()):
        return f"Made with {made}; of each key the newest record is kept."
    kept_ms = settings["retention.ms"]
    if kept_ms < 0:
        return f"Made with {made}; kept for ever."
    return f"Made with {made}; kept for {_span(kept_ms)}."


def _span(milliseconds: int) -> str:
    days, rest = divmod(milliseconds, _DAY_MS)
    if rest:
        hours = milliseconds // 3_600_000
        return f"{hours} hour{'' if hours == 1 else 's'}"
    return f"{days} day{'' if days == 1 else 's'}"


def _is_model(page: _Page, payload: Schema) -> bool:
    """Whether a message's payload is a model of the REST interface, field by field."""
    model = page.models.get(payload["title"])
    return model is not None and payload["title"] not in page.own and _plain(model) == _plain(payload)


def _plain(schema: Schema) -> Any:
    fields = re.sub(r'"#/components/[^"]*/', '"', json.dumps(schema["properties"], sort_keys=True))
    return fields, schema.get("required"), schema.get("allOf")


def _model(page: _Page, name: str, level: str) -> Iterator[str]:
    yield f"{level} {name}\n"
    yield from _fields(page, page.models[name], sent=name in page.sent)


def _fields(page: _Page, schema: Schema, *, sent: bool) -> Iterator[str]:
    if "description" in schema:
        yield _paragraphs(schema["description"])
    fields, required = schema["properties"], schema.get("required", ())
    if sent:
        rows = [(f"`{n}`", _type(_given(said)), _default(said, required=n in required)) for n, said in fields.items()]
        yield _table(("field", "type", "default"), rows)
    else:
        yield _table(("field", "type"), [(f"`{name}`", _type(said)) for name, said in fields.items()])
    rules = [_rule(rule) for rule in schema.get("allOf", ())]
    if rules:
        yield " ".join(rules) + "\n"
    # What only this message has; a name that the REST interface has too is told there.
    for name, nested in schema.get("$defs", {}).items():
        if name not in page.models:
            yield f"#### {name}\n"
            yield from _fields(page, nested, sent=sent)


def _given(schema: Schema) -> Schema:
    """A field of what is sent to the service, when it is given: that it may be null is said once for all."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    bounds = {name: schema[name] for name in ("minimum", "maximum") if name in schema}
    return {**bounds, **kinds[0]} if len(kinds) == 1 else {**bounds, "anyOf": kinds} if kinds else schema


def _default(schema: Schema, *, required: bool) -> str:
    if required:
        return "required"
    value = schema.get("default")
    return "" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`"


def _type(schema: Schema) -> str:
    """A schema in words, with its bounds."""
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return _either(schema)
    if "const" in schema or "enum" in schema:
        values = schema.get("enum") or [schema["const"]]
        return ", ".join(f"`{json.dumps(value)}`" for value in values)
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {_type(schema['items'])}{_size(schema, 'Items')}"
    if kind == "object":
        return _object(schema)
    return f"{_FORMATS.get(schema.get('format', ''), _KINDS.get(kind, kind))}{_bounds(schema)}"


def _either(schema: Schema) -> str:
    bounds = {name: value for name, value in schema.items() if name in ("minimum", "maximum")}
    kinds = [_type({**bounds, **kind} if kind.get("type") == "number" else kind) for kind in schema["anyOf"]]
    return (", or " if any("," in kind for kind in kinds) or len(kinds) > 2 else " or ").join(kinds)


def _object(schema: Schema) -> str:
    values = schema.get("additionalProperties")
    of = _type(values) if isinstance(values, Mapping) else "anything"
    return f"object of {f'({of})' if ',' in of else of}{_size(schema, 'Properties')}"


def _size(schema: Schema, what: str) -> str:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if most is None:
        return ""
    return f", {least:,} to {most:,} of them" if least else f", at most {most:,} of them"


def _bounds(schema: Schema) -> str:
    said = ""
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is not None:
        said += f", {least:,} to {most:,}"
    elif least is not None:
        said += f", at least {least:,}"
    shortest, longest = schema.get("minLength"), schema.get("maxLength")
    if longest is not None:
        said += f", {shortest} to {longest:,} characters" if shortest else f", at most {longest:,} characters"
    pattern = schema.get("pattern")
    if pattern and pattern != _NO_CONTROL_CHARACTERS:
        said += f", as `{pattern}`"
    return said


def _rule(rule: Schema) -> str:
    """A rule between fields, in words."""
    ((word, parts),) = rule.items()
    if word == "not":
        return f"Not {_listed(parts['allOf'], 'and')} together."
    start = "Exactly one of" if word == "oneOf" else "At least one of"
    return f"{start} {_listed(parts, 'or')}."


def _listed(parts: Sequence[Schema], word: str) -> str:
    names = [f"`{part['required'][0]}`" for part in parts]
    return f"{', '.join(names[:-1])} {word} {names[-1]}"


def _named(node: Any) -> list[str]:
    """The models that are named in a part of the document, in their order."""
    found: dict[str, None] = {}

    def look(at: Any) -> None:
        if isinstance(at, Mapping):
            if str(at.get("$ref", "")).startswith(_MODEL):
                found[at["$ref"].removeprefix(_MODEL)] = None
            at = list(at.values())
        if isinstance(at, list):
            for item in at:
                look(item)

    look(node)
    return list(found)


def _used_once(rest: Schema) -> frozenset[str]:
    """The models that one endpoint names and nothing else does."""
    users: Counter[str] = Counter()
    nested: set[str] = set()
    for methods in rest["paths"].values():
        for operation in methods.values():
            users.update(_named(operation))
    for parts in (rest["components"]["schemas"], rest["components"]["responses"]):
        for part in parts.values():
            nested.update(_named(part))
    return frozenset(name for name, count in users.items() if count == 1 and name not in nested)


def _sent(rest: Schema) -> frozenset[str]:
    """The models of request bodies, with what they are made of."""
    bodies = [operation.get("requestBody") for methods in rest["paths"].values() for operation in methods.values()]
    found, look = set[str](), _named(bodies)
    while look:
        name = look.pop()
        if name not in found:
            found.add(name)
            look += _named(rest["components"]["schemas"][name])
    return frozenset(found)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split())


def _paragraphs(text: str) -> str:
    return "\n\n".join(_line(part) for part in text.split("\n\n")) + "\n"
