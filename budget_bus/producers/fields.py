"""Keyword arguments of the SDK -> an event, read exactly as its JSON would be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from budget_bus.errors import FieldError, Rejected
from budget_bus.events.decode import rejected

M = TypeVar("M", bound=BaseModel)


def read_fields(model: type[M], fields: Mapping[str, Any], index: int | None = None) -> M:
    """
    Build an event from Python values; None is the same as leaving a field out. *index* goes before the field names.

    Raises:
        Rejected: names each wrong field. On a topic an unknown field is ignored, but here it is a misspelt argument.
    """
    prefix = () if index is None else (index,)
    given = {name: value for name, value in fields.items() if value is not None}
    unknown = [name for name in given if name not in model.model_fields]
    if unknown:
        paths = [".".join(map(str, (*prefix, name))) for name in unknown]
        raise Rejected("invalid input", [FieldError(path, "is not a field") for path in paths])
    try:
        # Through JSON, because the models are strict: there a UUID, a datetime or a Decimal may be text.
        return model.model_validate_json(to_json(given))
    except ValidationError as error:
        raise rejected(error, prefix) from None
    except PydanticSerializationError as error:
        raise Rejected(f"not expressible in JSON: {error}") from None
