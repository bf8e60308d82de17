"""Field types that events share, with the bounds that keep every accepted value storable."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from budget_bus.money import MAX_NANOS, NANOS_PER_UNIT, format_nanos

MAX_TOKENS = 1_000_000_000  # per event; a hundred thousand such events still fit a BIGINT of nanos
MAX_TAGS = 32
MAX_BODY_BYTES = 4 * 1024 * 1024
# LLM calls are younger than this, and windows near the ends of the calendar overflow.
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_MAX_AMOUNT = Decimal(MAX_NANOS) / NANOS_PER_UNIT
MAX_FUTURE_S = 300


def whole_number(value: Any) -> Any:
    # 47804.0 is a valid JSON-Schema integer; strict mode alone would refuse it.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _written_instant(value: Any) -> Any:
    # pydantic would take numbers, also as text, for seconds since 1970.
    if not isinstance(value, datetime) and not (isinstance(value, str) and value[10:11] in ("T", "t", " ")):
        raise ValueError("must be an RFC 3339 instant such as 2026-01-31T12:00:00Z")
    return value


def _utc(at: datetime) -> datetime:
    if not EARLIEST <= at < LATEST:
        raise ValueError("must be between the years 2000 and 2200")
    return at.astimezone(UTC) if at.utcoffset() else at


def _plain(amount: Decimal) -> Decimal:
    # "1" and "1.0" are the same amount, so they must not tell a duplicate from a conflict.
    return Decimal(format_nanos(int(amount * NANOS_PER_UNIT)))


def _sorted_tags(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > MAX_TAGS:
        raise ValueError(f"must have at most {MAX_TAGS} tags")
    return dict(sorted(tags.items()))


# PostgreSQL text cannot hold NUL, and a control character in a name is always a mistake upstream.
_PRINTABLE = r"^[^\p{Cc}]*$"

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_PRINTABLE)]
TokenCount = Annotated[int, BeforeValidator(whole_number), Field(ge=0, le=MAX_TOKENS)]
# Lax, because what a function hands on no longer counts as JSON, of which strict mode takes text.
Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written_instant), AfterValidator(_utc)]
Tags = Annotated[
    dict[Name, Annotated[str, StringConstraints(max_length=200, pattern=_PRINTABLE)]], AfterValidator(_sorted_tags)
]
Text = Annotated[str, StringConstraints(max_length=MAX_BODY_BYTES)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
ServiceTier = Literal["standard", "batch", "flex", "priority"]


def wrong_field(field: str, reason: str) -> PydanticCustomError:
    """An error of a rule between fields that still names the one to mend."""
    return PydanticCustomError("wrong_field", "{reason}", {"field": field, "reason": reason})


class WireModel(BaseModel):
    """Base of all events: immutable, strict about types, silent about unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


Money = Annotated[Decimal, Field(ge=0, le=_MAX_AMOUNT, decimal_places=9), AfterValidator(_plain)]
LargeCount = Annotated[int, BeforeValidator(whole_number), Field(ge=0, le=MAX_NANOS)]  # of many calls together


class Amount(WireModel):
    """An amount of money: a decimal string and its ISO 4217 currency."""

    amount: Money
    currency: Currency
