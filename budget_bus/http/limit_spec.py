"""What a body of /api/limits makes of a limit: a new one, or the one that is there with what it names changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from budget_bus.errors import FieldError, Rejected
from budget_bus.http.limit_body import LimitBody, LimitPatch
from budget_bus.money import MAX_NANOS, check_currency, parse_amount
from budget_bus.policy.budget import Basis, LimitSpec, Policy, Unit
from budget_bus.policy.scope import Scope, parse_scope
from budget_bus.policy.windows import Period
from budget_bus.providers.names import canonical_provider
from budget_bus.settings import Settings

DEFAULT_TTL_S = 86_400

# What a new statement about an existing budget leaves as it is unless it names it: name in the body -> in the spec.
_KEPT = {
    "name": "name",
    "policy": "policy",
    "thresholds": "thresholds",
    "alert_on": "alert_on",
    "timezone": "timezone",
    "shadow": "shadow",
    "critical_may_pass": "critical_may_pass",
    "currency": "currency",
    "week_start": "week_start",
    "month_anchor": "month_anchor",
    "ceiling_percent": "ceiling_percent",
    "rollover_cap": "rollover_cap",
    "ttl_s": "context_ttl_s",
}
_NULLABLE = ("policy", "ceiling_percent", "rollover_cap")


def spec_of(body: LimitBody, settings: Settings, parent: LimitSpec | None = None) -> LimitSpec:
    """
    The limit that a body asks for; *parent* is what its `parent` names.

    Raises:
        Rejected: names the field that is wrong.
    """
    scope = parse_scope(body.scope, provider_name=canonical_provider)
    unit = Unit(body.unit) if body.unit else parent.unit if parent else Unit.COST
    if unit is not Unit.COST and body.currency is not None:
        raise _wrong("currency", f"goes with unit cost, not {unit.value}")
    currency = body.currency or (parent.currency if parent else None) or settings.default_currency
    period = parent.period if parent and not body.period else Period(body.period or "")
    first_days = (parent.week_start, parent.month_anchor) if parent else (0, 1)
    default_ttl_s = (parent.context_ttl_s if parent else None) or DEFAULT_TTL_S
    spec = LimitSpec(
        name=body.name or _name(period, scope),
        scope=scope,
        period=period,
        unit=unit,
        limit=0 if body.limit is None else amount_of(body.limit, unit),
        currency=check_currency(currency) if unit is Unit.COST else None,
        policy=Policy(body.policy) if body.policy else None,
        ceiling_percent=body.ceiling_percent,
        thresholds=tuple(body.thresholds),
        timezone=body.timezone or (parent.timezone if parent else settings.timezone),
        week_start=first_days[0] if body.week_start is None else body.week_start,
        month_anchor=first_days[1] if body.month_anchor is None else body.month_anchor,
        shadow=body.shadow,
        parent_id=body.parent,
        percent=body.percent,
        rollover_cap=None if body.rollover_cap is None else amount_of(body.rollover_cap, unit, "rollover_cap"),
        context_ttl_s=body.ttl_s,
        critical_may_pass=body.critical_may_pass,
        alert_on=tuple(Basis(name) for name in body.alert_on),
    )
    _check_period(spec)
    return replace(spec, context_ttl_s=spec.context_ttl_s or default_ttl_s) if period is Period.PER_CONTEXT else spec


def kept(spec: LimitSpec, body: LimitBody, before: LimitSpec | None) -> LimitSpec:
    """*spec* of *body* for a budget that is *before*: what the body does not name stays as it is."""
    if before is None:
        return spec
    unnamed = _KEPT.keys() - body.model_fields_set
    return replace(spec, **{_KEPT[name]: getattr(before, _KEPT[name]) for name in unnamed})


def patched(spec: LimitSpec, patch: LimitPatch) -> LimitSpec:
    """
    *spec* with what *patch* sets.

    Raises:
        Rejected: a field is null that cannot be, does not go with this limit, or an amount does not fit the unit.
    """
    said: dict[str, Any] = {}
    for name in patch.model_fields_set:
        value = getattr(patch, name)
        if value is None and name not in _NULLABLE:
            raise _wrong(name, "must not be null; leave it out to keep it")
        said[name] = value
    changes = {_KEPT[name]: value for name, value in said.items() if name in _KEPT} | _measure(spec, said)
    if said.get("policy") is not None:
        changes["policy"] = Policy(said["policy"])
    if "thresholds" in said:
        changes["thresholds"] = tuple(said["thresholds"])
    if "alert_on" in said:
        changes["alert_on"] = tuple(Basis(name) for name in said["alert_on"])
    if said.get("rollover_cap") is not None:
        changes["rollover_cap"] = amount_of(said["rollover_cap"], spec.unit, "rollover_cap")
    after = replace(spec, **changes)
    _check_period(after)
    return after


def amount_of(amount: Decimal, unit: Unit, field: str = "limit") -> int:
    """
    *amount* in the unit's smallest part.

    Raises:
        Rejected: it cannot be kept exactly; the error names *field*.
    """
    if unit is Unit.COST:
        return parse_amount(amount, field=field)
    if amount != int(amount) or not 0 <= amount <= MAX_NANOS:
        raise _wrong(field, f"must be a whole number of {unit.value} from 0 to {MAX_NANOS}")
    return int(amount)


def _measure(spec: LimitSpec, said: Mapping[str, Any]) -> dict[str, Any]:
    """What a patch makes of a limit's amount: one of its own, or a part of a parent's."""
    if "limit" in said:
        return {"limit": amount_of(said["limit"], spec.unit), "parent_id": None, "percent": None}
    if not {"parent", "percent"} & said.keys():
        return {}
    parent_id, percent = said.get("parent", spec.parent_id), said.get("percent", spec.percent)
    if parent_id is None:
        raise _wrong("parent", "is required with percent: this limit is no allocation yet")
    if percent is None:
        raise _wrong("percent", "is required with parent: this limit is no allocation yet")
    return {"limit": 0, "parent_id": parent_id, "percent": percent}


def _check_period(spec: LimitSpec) -> None:
    if spec.rollover_cap is not None and spec.period in (Period.TOTAL, Period.PER_CONTEXT):
        raise _wrong("rollover_cap", f"does not go with period {spec.period.value}: it has no next window")
    if spec.context_ttl_s is not None and spec.period is not Period.PER_CONTEXT:
        raise _wrong("ttl_s", f"goes with period per_context, not {spec.period.value}")


def _name(period: Period, scope: Scope) -> str:
    said: Mapping[str, Any] = scope.to_json()
    words = [f"{name}={json.dumps(value) if not isinstance(value, str) else value}" for name, value in said.items()]
    return " ".join([period.value, *words])[:200]


def _wrong(field: str, message: str) -> Rejected:
    return Rejected("invalid input", [FieldError(field, message)])
