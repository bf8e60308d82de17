"""`budget set-limit` and `budget limits`: which budgets there are. Raises and windows are in raises.py."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from budget_bus.cli import raises, reallocating
from budget_bus.cli.gateway import ask, items
from budget_bus.cli.limit_words import BudgetArgument, amount_in, budget_id_of, measure, number, seconds
from budget_bus.cli.render import Format, FormatOption, show
from budget_bus.errors import Rejected

# ruff: noqa: PLC0415 - `budget --help` must not pay for what only a running command needs.

limits = typer.Typer(help="List, set and remove budgets.", no_args_is_help=True)

_COLUMNS = {
    "Budget id": "budget_id",
    "Name": "name",
    "Scope": "scope",
    "Period": "period",
    "Unit": "unit",
    "Limit": "limit",
    "Currency": "currency",
    "Part of": "part_of",
    "Context": "context_id",
    "Spent": "spent",
    "Available": "available",
    "Policy": "policy",
    "Thresholds": "thresholds",
    "Time zone": "timezone",
    "Shadow": "shadow",
}


class LimitPeriod(StrEnum):
    """How long a budget's windows are."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    TOTAL = "total"
    PER_CONTEXT = "per_context"


class LimitUnit(StrEnum):
    """What a budget counts."""

    COST = "cost"
    TOKENS = "tokens"
    REQUESTS = "requests"


class Basis(StrEnum):
    """What thresholds are compared with."""

    SPENT = "spent"
    COMMITTED = "committed"
    FORECAST = "forecast"


class PolicyName(StrEnum):
    """What happens over the limit."""

    IGNORE = "IGNORE"
    WARN = "WARN"
    SOFT_LIMIT = "SOFT_LIMIT"
    HARD_LIMIT = "HARD_LIMIT"


Names = list[str] | None
PeriodArgument = Annotated[
    LimitPeriod | None,
    typer.Argument(
        metavar="PERIOD",
        help="hourly, daily, weekly, monthly, total or per_context; left out with --parent.",
        case_sensitive=False,
    ),
]
AmountArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="AMOUNT",
        help="The limit: 10.0 of the currency, or whole tokens or requests; left out with --parent.",
    ),
]
ScopeOption = Annotated[
    str | None, typer.Option(help='The scope as JSON, e.g. {"user": {"not": ["bot"]}}; instead of the above.')
]
PolicyOption = Annotated[
    PolicyName | None,
    typer.Option("--policy", "--policy-type", case_sensitive=False, help="What happens over the limit."),
]
UnitOption = Annotated[
    LimitUnit | None, typer.Option(help="What is counted: cost, unless said otherwise.", case_sensitive=False)
]
ParentOption = Annotated[
    str | None, typer.Option(help="Make it an allocation: a part of this budget, by id or name, with --percent.")
]
PercentOption = Annotated[str | None, typer.Option(help="Which percentage of --parent, e.g. 30 or 12.5.")]
RolloverOption = Annotated[
    str | None, typer.Option(help="Hand on at most this much of what a window did not use to the next; none: nothing.")
]
TtlOption = Annotated[
    str | None, typer.Option(help="per_context: how long a context has from its first call on, e.g. 2h; else a day.")
]
CriticalOption = Annotated[bool | None, typer.Option(help="Let calls of priority critical pass a hard limit.")]
AlertOnOption = Annotated[
    list[Basis] | None,
    typer.Option(help="What thresholds look at: spent, committed, forecast; may be repeated.", case_sensitive=False),
]
ThresholdOption = Annotated[
    list[int] | None, typer.Option(help="Alert at this percentage; may be repeated (else 50, 80, 100).")
]


def set_limit(
    period: PeriodArgument = None,
    amount: AmountArgument = None,
    *,
    parent: ParentOption = None,
    percent: PercentOption = None,
    provider: Annotated[Names, typer.Option(help="Only calls of this provider; repeat it for any of several.")] = None,
    component: Annotated[Names, typer.Option(help="Only calls of this component; may be repeated.")] = None,
    model: Annotated[Names, typer.Option(help="Only this model; * stands for anything; may be repeated.")] = None,
    tier: Annotated[Names, typer.Option(help="Only this tier, e.g. remote_heavyweight; may be repeated.")] = None,
    task_type: Annotated[Names, typer.Option(help="Only this task type; may be repeated.")] = None,
    context_id: Annotated[Names, typer.Option(help="Only this context; may be repeated.")] = None,
    user: Annotated[Names, typer.Option(help="Only this user; may be repeated.")] = None,
    scope: ScopeOption = None,
    policy: PolicyOption = None,
    unit: UnitOption = None,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    currency: Annotated[str | None, typer.Option(help="Of AMOUNT, e.g. EUR; else BUDGET_DEFAULT_CURRENCY.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Where days begin, e.g. Europe/Berlin.")] = None,
    threshold: ThresholdOption = None,
    alert_on: AlertOnOption = None,
    rollover_cap: RolloverOption = None,
    ttl: TtlOption = None,
    critical_may_pass: CriticalOption = None,
    ceiling_percent: Annotated[int | None, typer.Option(help="SOFT_LIMIT turns hard at this percentage.")] = None,
    shadow: Annotated[bool | None, typer.Option(help="Only tell what it would deny.")] = None,
) -> None:
    """
    Create a budget, or change the one with the same scope, period and unit: what is not named keeps its value.

    Example: budget set-limit daily 10.0 --component rhetor --policy HARD_LIMIT
    """
    named = {
        "component": component,
        "provider": provider,
        "model": model,
        "tier": tier,
        "task_type": task_type,
        "context_id": context_id,
        "user": user,
    }
    said = {
        **_measure(period, amount, unit, parent, percent),
        "scope": scope_of(named, scope),
        "policy": policy.value if policy else None,
        "thresholds": sorted(set(threshold)) if threshold else None,
        "alert_on": [basis.value for basis in alert_on] if alert_on else None,
        "ceiling_percent": ceiling_percent,
        "ttl_s": None if ttl is None else seconds(ttl, "--ttl"),
        "critical_may_pass": critical_may_pass,
        "currency": currency.upper() if currency else None,
        "timezone": timezone,
        "name": name,
        "shadow": shadow,
    }
    body = {key: value for key, value in said.items() if value is not None}
    if rollover_cap is not None:
        body["rollover_cap"] = None if rollover_cap == "none" else number(rollover_cap, "--rollover-cap")
    status, budget = ask("POST", "/api/limits", body=body)
    print(f"{'created' if status == 201 else 'changed'} {_sentence(budget)}")


def _measure(
    period: LimitPeriod | None, amount: str | None, unit: LimitUnit | None, parent: str | None, percent: str | None
) -> dict[str, Any]:
    """The limit as an amount, or as a part of another."""
    said = {"period": period.value if period else None, "unit": unit.value if unit else None}
    if parent is None and percent is None:
        if period is None or amount is None:
            raise typer.BadParameter("say PERIOD and AMOUNT, or --parent and --percent")
        return {**said, "limit": amount_in(unit.value if unit else "cost", amount)}
    if amount is not None or parent is None or percent is None:
        raise typer.BadParameter("an allocation has --parent and --percent, and no AMOUNT")
    return {**said, "parent": budget_id_of(parent), "percent": number(percent, "--percent")}


limits.command("set")(set_limit)
limits.command("raise")(raises.raise_limit)
limits.command("end-raises")(raises.end_raises)
limits.command("windows")(raises.list_windows)
limits.command("reallocate")(reallocating.reallocate)


@limits.command("list")
def list_limits(form: FormatOption = Format.TABLE) -> None:
    """
    List the budgets in force.

    Example: budget limits list --format csv
    """
    found = items("/api/limits")
    names = {budget["budget_id"]: budget["name"] for budget in found}
    rows = [budget if form is Format.JSON else {**budget, "part_of": _part(budget, names)} for budget in found]
    show(rows, _COLUMNS, form, empty="no budgets yet; make one: budget set-limit daily 10.0")


@limits.command("remove")
def remove_limit(budget: BudgetArgument) -> None:
    """
    Take a budget out of force; what was recorded stays.

    Example: budget limits remove 6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10
    """
    budget_id = budget_id_of(budget)
    ask("DELETE", f"/api/limits/{budget_id}")
    print(f"removed {budget_id}")


def _part(budget: dict[str, Any], names: dict[str, str]) -> str | None:
    parent = budget.get("parent")
    return f"{budget['percent']} % of {names.get(parent, parent)}" if parent else None


def scope_of(named: dict[str, Names], raw: str | None) -> dict[str, Any]:
    """The scope in its one spelling, as the gateway shows it."""
    from budget_bus.policy.scope import parse_scope
    from budget_bus.providers.names import canonical_provider

    scope: Any = {key: value for key, value in named.items() if value}
    if raw is not None:
        if scope:
            raise typer.BadParameter(f"--scope says it all; leave out --{next(iter(scope)).replace('_', '-')}")
        try:
            scope = json.loads(raw)
        except ValueError as error:
            raise typer.BadParameter(f"is not JSON: {error}", param_hint="--scope") from None
    try:
        return parse_scope(scope, provider_name=canonical_provider).to_json()
    except Rejected as error:
        raise typer.BadParameter(str(error.errors[0])) from None


def _sentence(budget: dict[str, Any]) -> str:
    scope = budget.get("scope") or {}
    about = json.dumps(scope, ensure_ascii=False) if scope else "everything"
    policy = f"{budget['policy']}{' (the default)' if budget.get('policy_source') == 'default' else ''}"
    part = f" ({budget['percent']} % of {budget['parent']})" if budget.get("parent") else ""
    return f"{budget['budget_id']}: {budget['period']} {measure(budget, 'limit')}{part} for {about}, {policy}"
