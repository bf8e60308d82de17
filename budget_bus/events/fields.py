"""Field types that events share, with the bounds that keep every accepted value storable."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

MAX_TOKENS = 1_000_000_000  # per event; a hundred thousand such events still fit a BIGINT of nanos
MAX_TAGS = 32
MAX_BODY_BYTES = 4 * 1024 * 1024
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # LLM calls are younger; windows of year 1 overflow
MAX_FUTURE_S = 300


def whole_number(value: Any) -> Any:
    # 47804.0 is a valid JSON-Schema integer; strict mode alone would refuse it.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _utc(at: datetime) -> datetime:
    if at < EARLIEST:
        raise ValueError("must not be before 2000-01-01")
    return at.astimezone(UTC)


def _sorted_tags(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > MAX_TAGS:
        raise ValueError(f"must have at most {MAX_TAGS} tags")
    return dict(sorted(tags.items()))


# PostgreSQL text cannot hold NUL, and a control character in a name is always a mistake upstream.
_PRINTABLE = r"^[^\p{Cc}]*$"

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_PRINTABLE)]
TokenCount = Annotated[int, BeforeValidator(whole_number), Field(ge=0, le=MAX_TOKENS)]
Instant = Annotated[AwareDatetime, AfterValidator(_utc)]
Tags = Annotated[
    dict[Name, Annotated[str, StringConstraints(max_length=200, pattern=_PRINTABLE)]], AfterValidator(_sorted_tags)
]
Text = Annotated[str, StringConstraints(max_length=MAX_BODY_BYTES)]
ServiceTier = Literal["standard", "batch", "flex", "priority"]


def wrong_field(field: str, reason: str) -> PydanticCustomError:
    """An error of a rule between fields that still names the one to mend."""
    return PydanticCustomError("wrong_field", "{reason}", {"field": field, "reason": reason})


class WireModel(BaseModel):
    """Base of all events: immutable, strict about types, silent about unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class Amount(WireModel):
    """An amount of money: a decimal string and its ISO 4217 currency."""

    amount: Annotated[Decimal, Field(ge=0, max_digits=19, decimal_places=9)]
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
