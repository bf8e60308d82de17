"""`budget set-limit` and `budget limits`: which budgets there are."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from budget_bus.cli.gateway import ask, items
from budget_bus.cli.render import Format, FormatOption, show
from budget_bus.errors import NotFound, Rejected

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


class LimitUnit(StrEnum):
    """What a budget counts."""

    COST = "cost"
    TOKENS = "tokens"
    REQUESTS = "requests"


class PolicyName(StrEnum):
    """What happens over the limit."""

    IGNORE = "IGNORE"
    WARN = "WARN"
    SOFT_LIMIT = "SOFT_LIMIT"
    HARD_LIMIT = "HARD_LIMIT"


Names = list[str] | None
PeriodArgument = Annotated[
    LimitPeriod,
    typer.Argument(metavar="PERIOD", help="hourly, daily, weekly, monthly or total.", case_sensitive=False),
]
AmountArgument = Annotated[
    str, typer.Argument(metavar="AMOUNT", help="The limit: 10.0 of the currency, or whole tokens or requests.")
]
ScopeOption = Annotated[
    str | None, typer.Option(help='The scope as JSON, e.g. {"user": {"not": ["bot"]}}; instead of the above.')
]
PolicyOption = Annotated[
    PolicyName | None,
    typer.Option("--policy", "--policy-type", case_sensitive=False, help="What happens over the limit."),
]
UnitOption = Annotated[LimitUnit, typer.Option(help="What is counted.", case_sensitive=False)]
ThresholdOption = Annotated[
    list[int] | None, typer.Option(help="Alert at this percentage; may be repeated (else 50, 80, 100).")
]


def set_limit(
    period: PeriodArgument,
    amount: AmountArgument,
    *,
    provider: Annotated[Names, typer.Option(help="Only calls of this provider; repeat it for any of several.")] = None,
    component: Annotated[Names, typer.Option(help="Only calls of this component; may be repeated.")] = None,
    model: Annotated[Names, typer.Option(help="Only this model; * stands for anything; may be repeated.")] = None,
    tier: Annotated[Names, typer.Option(help="Only this tier, e.g. remote_heavyweight; may be repeated.")] = None,
    task_type: Annotated[Names, typer.Option(help="Only this task type; may be repeated.")] = None,
    context_id: Annotated[Names, typer.Option(help="Only this context; may be repeated.")] = None,
    user: Annotated[Names, typer.Option(help="Only this user; may be repeated.")] = None,
    scope: ScopeOption = None,
    policy: PolicyOption = None,
    unit: UnitOption = LimitUnit.COST,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Where days begin, e.g. Europe/Berlin.")] = None,
    threshold: ThresholdOption = None,
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
    which = {"period": period.value, "unit": unit.value, "scope": _scope(named, scope)}
    said = {
        "limit": _amount(amount, unit),
        "policy": policy.value if policy else None,
        "thresholds": sorted(set(threshold)) if threshold else None,
        "ceiling_percent": ceiling_percent,
        "timezone": timezone,
        "name": name,
        "shadow": shadow,
    }
    created, budget = _set(which, {key: value for key, value in said.items() if value is not None})
    print(f"{'created' if created else 'changed'} {_sentence(budget)}")


def _set(which: dict[str, Any], said: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Whether it was created, and the budget as it is now."""
    found = items("/api/limits", {"period": which["period"], "unit": which["unit"]})
    same = [budget["budget_id"] for budget in found if budget["scope"] == which["scope"]]
    if same:
        # POST would set to their defaults what is not said: a new amount must not turn a hard limit into a soft one.
        return False, ask("PATCH", f"/api/limits/{same[0]}", body=said)[1]
    status, budget = ask("POST", "/api/limits", body={**which, **said})
    return status == 201, budget


limits.command("set")(set_limit)


@limits.command("list")
def list_limits(form: FormatOption = Format.TABLE) -> None:
    """
    List the budgets in force.

    Example: budget limits list --format csv
    """
    show(items("/api/limits"), _COLUMNS, form, empty="no budgets yet; make one: budget set-limit daily 10.0")


@limits.command("remove")
def remove_limit(
    budget: Annotated[str, typer.Argument(help="The budget's id, or its name when no other has it.")],
) -> None:
    """
    Take a budget out of force; what was recorded stays.

    Example: budget limits remove 6f1c2b1e-8a51-4a3e-9a44-0d3c3f3f5a10
    """
    budget_id = _find(budget)
    ask("DELETE", f"/api/limits/{budget_id}")
    print(f"removed {budget_id}")


def _find(budget: str) -> str:
    try:
        return str(UUID(budget))
    except ValueError:
        pass
    ids = [item["budget_id"] for item in items("/api/limits") if item.get("name") == budget]
    if not ids:
        raise NotFound(f"no budget is called {budget!r}; `budget limits list` shows them")
    if len(ids) > 1:
        raise Rejected(f"{len(ids)} budgets are called {budget!r}; name one by its id: {', '.join(ids)}")
    return str(ids[0])


def _scope(named: dict[str, Names], raw: str | None) -> dict[str, Any]:
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


def _amount(text: str, unit: LimitUnit) -> str:
    from budget_bus.money import parse_amount

    if unit is LimitUnit.COST:
        try:
            parse_amount(text, field="AMOUNT")
        except Rejected as error:
            raise typer.BadParameter(error.errors[0].message, param_hint="AMOUNT") from None
    elif not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f"{text!r} is not a whole number of {unit.value}", param_hint="AMOUNT")
    return text


def _sentence(budget: dict[str, Any]) -> str:
    measure = budget.get("currency") if budget.get("unit") == "cost" else budget.get("unit")
    scope = budget.get("scope") or {}
    about = json.dumps(scope, ensure_ascii=False) if scope else "everything"
    policy = f"{budget['policy']}{' (the default)' if budget.get('policy_source') == 'default' else ''}"
    return f"{budget['budget_id']}: {budget['period']} {budget['limit']} {measure} for {about}, {policy}"
