"""
A raw response -> our token classes. The rules, in the order in which they are applied:

1.  Every count must be a whole number from 0 on, or be left out; anything else is Rejected, and so is a response
    without usage. Nothing is taken for zero because it is missing.
2.  The form of the response decides what the counts include, not the provider: what was cached is inside of the
    input of OpenAI's forms and Gemini's and outside of it in Anthropic's and Bedrock's; thoughts are outside of
    Gemini's candidates; audio and reasoning are inside elsewhere. genai-prices' extractors know this per form.
3.  The response's own total is the judge where it has one. What it has beyond input and output is the reasoning
    (xAI) or what was cached (gateways that pass Anthropic's numbers on), if that is just the difference. Else the
    difference is output that the response does not name (Gemini's thoughts in OpenAI's form), and the call is
    `estimated`.
4.  Without a total, reasoning or a cached part that is larger than what should include it must be outside of it: it
    is added, and the call is `estimated`. So no part is ever larger than its whole, and nothing is lost or negative.
5.  A total below its parts, and a stream that broke off, leave the call `estimated`; the larger number stands.
6.  What still contradicts itself (more audio than input, say) is Rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from budget_bus.errors import FieldError, Rejected
from budget_bus.policy.pricing import Tokens
from budget_bus.providers.counting import count_with
from budget_bus.providers.extracted import Extracted
from budget_bus.providers.gathering import Body, Gathered
from budget_bus.providers.raw_counts import Counts, clean, read_counts
from budget_bus.providers.shapes import Shape
from budget_bus.providers.vocabularies import Vocabulary, named_vocabulary

# What providers call the service tiers whose prices differ. Any other word says nothing about the price.
_TIERS: Final = {
    "default": "standard",
    "standard": "standard",
    "on_demand": "standard",
    "batch": "batch",
    "flex": "flex",
    "priority": "priority",
}


def _no_cost(usage: Body) -> Decimal | None:
    return None


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs between providers of one form."""

    reasoning_outside: bool = False
    vocabulary: Callable[[str], Vocabulary] = field(default=named_vocabulary)
    reported_cost: Callable[[Body], Decimal | None] = field(default=_no_cost)


def normalise(
    raw: Mapping[str, Any] | Iterable[Any], shapes: Sequence[Shape], rules: Rules, *, asked_model: str | None = None
) -> Extracted:
    """
    Read one call's usage; see the module for the rules.

    Raises:
        Rejected: names the field that is missing or impossible.
    """
    bodies = _bodies(raw)
    shape = _shape_of(bodies, shapes)
    gathered = shape.gather(bodies)
    usage = clean(_usage_of(gathered, shape), shape.root)
    counts = read_counts(shape, gathered.body, usage)
    notes: list[str] = []
    if counts.missing:
        notes.append(f"the response has no {counts.missing}")
    _judge_by_total(counts, usage.get(shape.total), rules, notes)
    model = _text(gathered.body, "model", "modelVersion")
    if not gathered.complete:
        notes.append("the stream broke off before its last word on usage")
        seen = count_with(rules.vocabulary(asked_model or model or ""), gathered.text)
        counts.output = max(counts.output, seen.tokens if gathered.text else 0)
    _judge_subsets(counts, shape.root)
    return Extracted(
        tokens=Tokens(
            input=counts.input,
            output=counts.output,
            cache_read=counts.cache_read,
            cache_creation=counts.cache_creation,
            reasoning_output=counts.reasoning,
            input_audio=counts.input_audio,
            output_audio=counts.output_audio,
            cache_creation_1h=counts.cache_creation_1h,
            input_image=counts.input_image,
            output_image=counts.output_image,
        ),
        model=model,
        response_id=_response_id(gathered.body),
        service_tier=_TIERS.get(_text(gathered.body, "service_tier") or _text(usage, "service_tier") or ""),
        reported_cost=rules.reported_cost(usage),
        estimated=bool(notes),
        notes=tuple(notes),
    )


def _bodies(raw: Mapping[str, Any] | Iterable[Any]) -> list[Body]:
    """One body, or a stream's chunks; objects of SDKs are taken by their `model_dump`."""
    if isinstance(raw, Mapping) or hasattr(raw, "model_dump"):
        return [_body(raw, "response")]
    if isinstance(raw, str | bytes) or not isinstance(raw, Iterable):
        raise Rejected(
            "invalid response", [FieldError("response", "must be a JSON object or a list of a stream's chunks")]
        )
    bodies = [_body(chunk, f"response.{index}") for index, chunk in enumerate(raw)]
    if not bodies:
        raise Rejected("invalid response", [FieldError("response", "is a stream without a chunk")])
    return bodies


def _body(chunk: Any, path: str) -> Body:
    # By alias: Google's SDK has names of Python's style, and its API's names as aliases.
    dumped = chunk.model_dump(by_alias=True) if hasattr(chunk, "model_dump") else chunk
    if not isinstance(dumped, Mapping):
        raise Rejected("invalid response", [FieldError(path, f"must be a JSON object, not {type(chunk).__name__}")])
    return dumped


def _shape_of(bodies: Sequence[Body], shapes: Sequence[Shape]) -> Shape:
    for shape in shapes:
        if any(shape.fits(body) for body in bodies):
            return shape
    if any(body.get("error") for body in bodies):
        raise Rejected("no usage", [FieldError("response", "is an error, which says nothing of usage")])
    names = ", ".join(shape.name for shape in shapes)
    raise Rejected("no usage", [FieldError("response", f"has none of the forms that this provider sends: {names}")])


def _usage_of(gathered: Gathered, shape: Shape) -> Body:
    found: Any = gathered.body
    for step in filter(None, shape.root.split(".")):
        found = found.get(step) if isinstance(found, Mapping) else None
    if isinstance(found, Mapping) and found:
        return found
    hint = "; record the texts instead, or ask for it"
    if shape.name == "chat":
        hint += ' (with "stream_options": {"include_usage": true} where the call is streamed)'
    raise Rejected("no usage", [FieldError(shape.root or "response", f"is missing{hint}")])


def _judge_by_total(counts: Counts, total: Any, rules: Rules, notes: list[str]) -> None:
    cached = counts.cache_read + counts.cache_creation
    if total is None:
        if rules.reasoning_outside:
            counts.output += counts.reasoning
    elif (beyond := total - counts.input - counts.output) > 0:
        if beyond == counts.reasoning:
            counts.output += beyond
        elif beyond == cached:
            counts.input += beyond
        else:
            counts.output += beyond
            notes.append(f"the total has {beyond} tokens more than input and output; they are taken as output")
    elif beyond < 0 and -beyond != counts.tool_use:
        notes.append(f"the total ({total}) is less than input and output together")
    if counts.reasoning > counts.output:
        counts.output += counts.reasoning
        notes.append("more reasoning than output; it is taken to come on top")
    if cached > counts.input:
        counts.input += cached
        notes.append("more cached than input; it is taken to come on top")


def _judge_subsets(counts: Counts, root: str) -> None:
    for name, part, whole_name, whole in (
        ("input audio and image tokens", counts.input_audio + counts.input_image, "input", counts.input),
        (
            "reasoning, output audio and image tokens",
            counts.reasoning + counts.output_audio + counts.output_image,
            "output",
            counts.output,
        ),
        ("cache creation tokens for an hour", counts.cache_creation_1h, "cache creation", counts.cache_creation),
    ):
        if part > whole:
            raise Rejected(
                "impossible usage", [FieldError(root, f"has {part} {name}, but only {whole} {whole_name} tokens")]
            )


def _text(body: Body, *keys: str) -> str | None:
    return next((value for key in keys if isinstance(value := body.get(key), str) and value), None)


def _response_id(body: Body) -> str | None:
    inner = body.get("response")
    for found in (inner if isinstance(inner, Mapping) else {}, body, body.get("ResponseMetadata") or {}):
        if isinstance(found, Mapping) and (told := _text(found, "id", "responseId", "RequestId")):
            return told
    return None
