"""Bytes of a record or a request body -> a model, or Rejected that names every wrong field and its fix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from budget_bus.errors import FieldError, Rejected

M = TypeVar("M", bound=BaseModel)


def decode(model: type[M], raw: bytes | None) -> M:
    """
    Read one event.

    Raises:
        Rejected: `detail` is a reason of one line, `errors` names the fields.
    """
    if raw is None:
        raise Rejected("the value is null; a JSON object is needed")
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise rejected(error) from None


def rejected(error: ValidationError, prefix: Sequence[str | int] = ()) -> Rejected:
    """Word a validation error for the one who sent the input; *prefix* is the path down to what was validated."""
    fields = [FieldError(_path(prefix, item), _reason(item)) for item in error.errors(include_url=False)]
    if any(item["type"] == "json_invalid" for item in error.errors(include_url=False)):
        return Rejected("not valid JSON", fields)
    return Rejected("invalid input", fields)


def _path(prefix: Sequence[str | int], item: Any) -> str:
    named = (item["ctx"]["field"],) if item["type"] == "wrong_field" else ()
    return ".".join(str(part) for part in (*prefix, *item["loc"], *named))


def _reason(item: Any) -> str:
    if item["type"] == "missing":
        return "is required"
    if item["type"] == "string_pattern_mismatch":
        if item["loc"][-1] == "currency":
            return "must be a three-letter ISO 4217 code such as USD"
        return "must not contain control characters"
    cause = item.get("ctx", {}).get("error")
    return str(cause) if isinstance(cause, ValueError) else str(item["msg"])
