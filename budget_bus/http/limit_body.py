"""The bodies of /api/limits -> LimitSpec, with numbers taken as they were written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from budget_bus.errors import FieldError, Rejected
from budget_bus.events.fields import Name
from budget_bus.http.body import worded
from budget_bus.http.problems import NotJson
from budget_bus.http.query import ZoneName
from budget_bus.money import MAX_NANOS, check_currency, parse_amount
from budget_bus.policy.budget import DEFAULT_THRESHOLDS, LimitSpec, Policy, Unit
from budget_bus.policy.scope import Scope, parse_scope
from budget_bus.policy.windows import Period
from budget_bus.providers.names import canonical_provider
from budget_bus.settings import Settings

B = TypeVar("B", bound=BaseModel)


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


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _ascending(thresholds: list[int]) -> list[int]:
    return sorted(set(thresholds))


Whole = BeforeValidator(_whole)
LimitAmount = Annotated[Decimal, BeforeValidator(_amount)]
PolicyName = Annotated[Literal["IGNORE", "WARN", "SOFT_LIMIT", "HARD_LIMIT"], BeforeValidator(_upper)]
Percent = Annotated[int, Whole, Field(ge=1, le=10_000)]
Thresholds = Annotated[list[Percent], Field(max_length=20), AfterValidator(_ascending)]
Ceiling = Annotated[int, Whole, Field(ge=100, le=10_000)]


class _Body(BaseModel):
    # A misspelt field must not be ignored here: "polcy" would make a limit that limits nothing.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class LimitBody(_Body):
    """
    A limit to set. `limit` is an amount of the currency, or a whole number of tokens or requests, as a string or a
    number; `thresholds` are percent of it. Without `policy` the limit follows BUDGET_ENFORCEMENT_LEVEL.
    """

    period: Literal["hourly", "daily", "weekly", "monthly", "total"]
    limit: LimitAmount
    unit: Literal["cost", "tokens", "requests"] = "cost"
    scope: dict[str, Any] = Field(default_factory=dict)
    policy: PolicyName | None = None
    thresholds: Thresholds = list(DEFAULT_THRESHOLDS)
    timezone: ZoneName | None = None
    name: Name | None = None
    shadow: bool = False
    currency: str | None = None
    week_start: Annotated[int, Whole, Field(ge=0, le=6)] = 0
    month_anchor: Annotated[int, Whole, Field(ge=1, le=31)] = 1
    ceiling_percent: Ceiling | None = None


class LimitPatch(_Body):
    """
    What to change of a limit; the rest stays. Null gives `policy` back to the default and takes `ceiling_percent`
    away. Scope, period and unit are what a limit is: for another one, set a new limit.
    """

    limit: LimitAmount | None = None
    policy: PolicyName | None = None
    thresholds: Thresholds | None = None
    timezone: ZoneName | None = None
    name: Name | None = None
    shadow: bool | None = None
    week_start: Annotated[int, Whole, Field(ge=0, le=6)] | None = None
    month_anchor: Annotated[int, Whole, Field(ge=1, le=31)] | None = None
    ceiling_percent: Ceiling | None = None


_NULLABLE = ("policy", "ceiling_percent")


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


def spec_of(body: LimitBody, settings: Settings) -> LimitSpec:
    """
    The limit that a body asks for.

    Raises:
        Rejected: names the field that is wrong.
    """
    scope, unit = parse_scope(body.scope, provider_name=canonical_provider), Unit(body.unit)
    if unit is not Unit.COST and body.currency is not None:
        raise Rejected("invalid input", [FieldError("currency", f"goes with unit cost, not {unit.value}")])
    return LimitSpec(
        name=body.name or _name(body.period, scope),
        scope=scope,
        period=Period(body.period),
        unit=unit,
        limit=_limit(body.limit, unit),
        currency=check_currency(body.currency or settings.default_currency) if unit is Unit.COST else None,
        policy=Policy(body.policy) if body.policy else None,
        ceiling_percent=body.ceiling_percent,
        thresholds=tuple(body.thresholds),
        timezone=body.timezone or settings.timezone,
        week_start=body.week_start,
        month_anchor=body.month_anchor,
        shadow=body.shadow,
    )


# What a new statement about an existing budget leaves as it is unless it names it.
KEPT = (
    "name", "policy", "thresholds", "timezone", "shadow", "currency", "week_start", "month_anchor", "ceiling_percent"
)  # fmt: skip


def same_budget(one: LimitSpec, other: LimitSpec) -> bool:
    """Whether both are about the same scope, period and unit: what a budget is."""
    return (one.scope.to_json(), one.period, one.unit) == (other.scope.to_json(), other.period, other.unit)


def patched(spec: LimitSpec, patch: LimitPatch) -> LimitSpec:
    """
    *spec* with what *patch* sets.

    Raises:
        Rejected: a field is null that cannot be, or the amount does not fit the unit.
    """
    changes: dict[str, Any] = {}
    for name in patch.model_fields_set:
        value = getattr(patch, name)
        if value is None and name not in _NULLABLE:
            raise Rejected("invalid input", [FieldError(name, "must not be null; leave it out to keep it")])
        changes[name] = value
    if "limit" in changes:
        changes["limit"] = _limit(changes["limit"], spec.unit)
    if changes.get("policy") is not None:
        changes["policy"] = Policy(changes["policy"])
    if "thresholds" in changes:
        changes["thresholds"] = tuple(changes["thresholds"])
    return replace(spec, **changes)


def _limit(amount: Decimal, unit: Unit) -> int:
    if unit is Unit.COST:
        return parse_amount(amount, field="limit")
    if amount != int(amount) or not 0 <= amount <= MAX_NANOS:
        message = f"must be a whole number of {unit.value} from 0 to {MAX_NANOS}"
        raise Rejected("invalid input", [FieldError("limit", message)])
    return int(amount)


def _name(period: str, scope: Scope) -> str:
    said: Mapping[str, Any] = scope.to_json()
    words = [f"{name}={json.dumps(value) if not isinstance(value, str) else value}" for name, value in said.items()]
    return " ".join([period, *words])[:200]
