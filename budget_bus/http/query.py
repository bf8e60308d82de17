"""Query string -> a model whose errors name the parameter and the fix; pages and their cursors."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, get_origin
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from budget_bus.errors import FieldError, Rejected
from budget_bus.events.fields import EARLIEST, Name

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

LATEST = datetime(2200, 1, 1, tzinfo=UTC)

_FIXES = {
    "datetime": "write RFC 3339 with its zone, such as 2026-01-31T00:00:00Z (a + is sent as %2B)",
    "timezone": "write RFC 3339 with its zone, such as 2026-01-31T00:00:00Z (a + is sent as %2B)",
    "bool": "write true or false",
    "int": "write a whole number",
}


def _bounded(at: datetime) -> datetime:
    if not EARLIEST <= at <= LATEST:
        raise ValueError("must lie between 2000-01-01 and 2200-01-01")
    return at.astimezone(UTC)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is not an IANA time zone such as Europe/Berlin") from None
    return name


Moment = Annotated[AwareDatetime, AfterValidator(_bounded)]
ZoneName = Annotated[str, AfterValidator(_zone)]
Names = Annotated[list[Name], Field(max_length=100)]


class Query(BaseModel):
    """Base of all queries. A parameter that is not known is an error: ignoring a filter would give wrong sums."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Page(Query):
    """The part of a list to give."""

    cursor: str | None = None
    page_size: int = Field(100, ge=1, le=1000)


def read_query(model: type[M], params: QueryParams) -> M:
    """
    Read a query string. A field that is a list takes every value of its parameter, any other exactly one.

    Raises:
        Rejected: names each wrong parameter and the fix.
    """
    values: dict[str, Any] = {}
    for name in params:
        given = params.getlist(name)
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is list:
            values[name] = given
        elif len(given) > 1:
            raise Rejected("invalid query", [FieldError(name, "is given more than once")])
        else:
            values[name] = given[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise Rejected("invalid query", [_explain(model, item) for item in error.errors()]) from None


def write_cursor(*key: Any) -> str:
    """Where the next page begins, opaque to the caller."""
    return base64.urlsafe_b64encode(json.dumps(key, default=str).encode()).decode().rstrip("=")


def read_cursor(cursor: str, read: Callable[..., T]) -> T:
    """
    What `write_cursor` was given, through *read*.

    Raises:
        Rejected: it is not one of ours.
    """
    try:
        return read(*json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))))
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError, binascii.Error):
        raise Rejected("invalid query", [FieldError("cursor", "take it from next_cursor of the page before")]) from None


def place(at: str, identity: str) -> tuple[datetime, UUID]:
    """A cursor's place in a list that is ordered by a time and an id."""
    instant = datetime.fromisoformat(at)
    if instant.tzinfo is None:
        raise ValueError("a cursor's time has a zone")
    return instant, UUID(identity)


def _explain(model: type[BaseModel], item: Any) -> FieldError:
    name = ".".join(str(part) for part in item["loc"][:1]) or "query"
    if item["type"] == "extra_forbidden":
        return FieldError(name, f"is not a parameter here; known are {', '.join(sorted(model.model_fields))}")
    cause = item.get("ctx", {}).get("error")
    reason = str(cause) if isinstance(cause, ValueError) else item["msg"]
    fix = next((fix for prefix, fix in _FIXES.items() if item["type"].startswith(prefix)), None)
    return FieldError(name, f"{reason}; {fix}" if fix else reason)
