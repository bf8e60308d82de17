"""The bodies of /api/limits, with numbers taken as they were written."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from budget_bus.events.fields import Instant, Name, wrong_field
from budget_bus.http.body import worded
from budget_bus.http.problems import NotJson
from budget_bus.http.query import ZoneName
from budget_bus.policy.budget import DEFAULT_THRESHOLDS

B = TypeVar("B", bound=BaseModel)

YEAR_S = 31_536_000


def _whole(value: Any) -> Any:
    whole = isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < 20 and value == int(value)
    return int(value) if whole else value


def _amount(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise ValueError('must be a decimal string such as "12.50", or a number')
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a decimal amount; write for example 12.50") from None
    if not number.is_finite() or (number and not -20 < number.adjusted() < 20):
        raise ValueError("is not an amount that can be kept")
    return number


def _share(percent: Decimal) -> Decimal:
    if not 0 <= percent <= 100:
        raise ValueError("must be a percentage from 0 to 100")
    if percent != round(percent, 4):
        raise ValueError("must have at most 4 decimals")
    return percent


def _identity(value: Any) -> Any:
    try:
        return value if isinstance(value, UUID) else UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f"{value!r} is no budget_id; GET /api/limits lists them") from None


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _ascending(thresholds: list[int]) -> list[int]:
    return sorted(set(thresholds))


def _bases(names: list[str]) -> list[str]:
    return sorted(set(names), reverse=True)


Whole = BeforeValidator(_whole)
LimitAmount = Annotated[Decimal, BeforeValidator(_amount)]
PeriodName = Literal["hourly", "daily", "weekly", "monthly", "total", "per_context"]
PolicyName = Annotated[Literal["IGNORE", "WARN", "SOFT_LIMIT", "HARD_LIMIT"], BeforeValidator(_upper)]
BudgetId = Annotated[UUID, BeforeValidator(_identity)]
Share = Annotated[Decimal, BeforeValidator(_amount), AfterValidator(_share)]
Thresholds = Annotated[
    list[Annotated[int, Whole, Field(ge=1, le=10_000)]], Field(max_length=20), AfterValidator(_ascending)
]
Ceiling = Annotated[int, Whole, Field(ge=100, le=10_000)]
Seconds = Annotated[int, Whole, Field(ge=1, le=YEAR_S)]
WeekStart = Annotated[int, Whole, Field(ge=0, le=6)]
MonthAnchor = Annotated[int, Whole, Field(ge=1, le=31)]
AlertOn = Annotated[
    list[Literal["spent", "committed", "forecast"]], Field(min_length=1, max_length=3), AfterValidator(_bases)
]


class _Body(BaseModel):
    # A misspelt field must not be ignored here: "polcy" would make a limit that limits nothing.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class LimitBody(_Body):
    """
    A limit to set: either `limit`, or `parent` and `percent` for an allocation, whose limit follows its parent's.

    Amounts are of the currency, or whole numbers of tokens or requests, as strings or numbers; `thresholds` are
    percent of the limit. Without `policy` the limit follows BUDGET_ENFORCEMENT_LEVEL. An allocation has its parent's
    period, unit and currency, and, unless it says otherwise, the parent's time zone, first days and `ttl_s`.
    `rollover_cap` is the most that a window hands on to the next of what it did not use. `ttl_s` goes with per_context.
    """

    period: PeriodName | None = None
    limit: LimitAmount | None = None
    parent: BudgetId | None = None
    percent: Share | None = None
    unit: Literal["cost", "tokens", "requests"] | None = None
    scope: dict[str, Any] = Field(default_factory=dict)
    policy: PolicyName | None = None
    thresholds: Thresholds = list(DEFAULT_THRESHOLDS)
    alert_on: AlertOn = ["spent"]
    timezone: ZoneName | None = None
    name: Name | None = None
    shadow: bool = False
    critical_may_pass: bool = False
    currency: str | None = None
    week_start: WeekStart | None = None
    month_anchor: MonthAnchor | None = None
    ceiling_percent: Ceiling | None = None
    rollover_cap: LimitAmount | None = None
    ttl_s: Seconds | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        _either(self)
        if self.limit is None and self.parent is None and self.percent is None:
            raise wrong_field("limit", "is required; or give parent and percent instead")
        if self.percent is None and self.parent is not None:
            raise wrong_field("percent", "is required with parent")
        if self.parent is None and self.percent is not None:
            raise wrong_field("parent", "is required with percent: the budget_id of what it is a part of")
        if self.period is None and self.parent is None:
            raise wrong_field("period", "is required")
        return self


class LimitPatch(_Body):
    """
    What to change of a limit; the rest stays. Null gives `policy` back to the default and takes `ceiling_percent` or
    `rollover_cap` away. `parent` and `percent` make it an allocation, `limit` ends that. Scope, period and unit are
    what a limit is: for another one, set a new limit.
    """

    limit: LimitAmount | None = None
    parent: BudgetId | None = None
    percent: Share | None = None
    policy: PolicyName | None = None
    thresholds: Thresholds | None = None
    alert_on: AlertOn | None = None
    timezone: ZoneName | None = None
    name: Name | None = None
    shadow: bool | None = None
    critical_may_pass: bool | None = None
    week_start: WeekStart | None = None
    month_anchor: MonthAnchor | None = None
    ceiling_percent: Ceiling | None = None
    rollover_cap: LimitAmount | None = None
    ttl_s: Seconds | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        _either(self)
        return self


class RaiseBody(_Body):
    """By how much a limit is raised, and until when or for how long from now; exactly one of the two."""

    amount: LimitAmount
    expires_at: Instant | None = None
    ttl_s: Seconds | None = None
    reason: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.expires_at is None) == (self.ttl_s is None):
            raise wrong_field("expires_at", "give exactly one of expires_at and ttl_s")
        return self


class ReallocationBody(_Body):
    """New percentages of allocations of one budget, by their budget_id; those that are not named keep theirs."""

    percents: Annotated[dict[BudgetId, Share], Field(min_length=1, max_length=1000)]


def _either(body: LimitBody | LimitPatch) -> None:
    if body.limit is not None and (body.parent is not None or body.percent is not None):
        raise wrong_field("limit", "does not go with parent and percent: an allocation's limit follows its parent's")


def read_exact(model: type[B], raw: bytes) -> B:
    """
    Read a body without letting a number become a float: 0.1 is a tenth.

    Raises:
        NotJson: it is not JSON.
        Rejected: names every wrong field.
    """
    try:
        from_json(raw, allow_inf_nan=False)  # knows depth and text that json.loads lets through
        values = json.loads(raw, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error)) from None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise worded(error) from None
