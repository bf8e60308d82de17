"""The limits that the settings name (DAILY_BUDGET_LIMIT, RHETOR_ALLOCATION, ...) as budgets and their allocations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import asyncpg

from budget_bus.errors import ConfigError, Conflict, NotFound, Rejected
from budget_bus.money import Nanos, format_nanos, parse_amount
from budget_bus.policy.allocation import ancestry
from budget_bus.policy.budget import Budget, LimitSpec, Unit
from budget_bus.policy.scope import Scope, parse_scope
from budget_bus.policy.windows import Period
from budget_bus.store.limits import list_limits, percent_text, remove_limit, set_limit
from budget_bus.store.sql import queries

_SQL = queries("catalogue")
_KEY = "standing_limits"
ACTOR = "settings"
OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class Standing:
    """A limit of the settings. *parts* are its allocations: they have a percentage, and its budget as their parent."""

    spec: LimitSpec
    parts: tuple[LimitSpec, ...] = ()


def standing_limits(
    amounts: Mapping[Period, str | None], allocations: Mapping[str, Decimal], *, currency: str, timezone: str
) -> list[Standing]:
    """
    A global cost budget per period of *amounts*, and per component of *allocations* its percentage of each.

    OTHER is shared by all components that are not named.
    """
    named = sorted(component.lower() for component in allocations if component != OTHER)
    limits = []
    for period, text in amounts.items():
        if text is None:
            continue
        whole = LimitSpec(period.value, Scope(), period, Unit.COST, parse_amount(text), currency, timezone=timezone)
        parts = []
        for component, percent in sorted(allocations.items()):
            rule = {"not": named} if component == OTHER else component.lower()
            if rule != {"not": []}:
                scope, name = parse_scope({"component": rule}), f"{period.value} {component.lower()}"
                parts.append(replace(whole, name=name, scope=scope, limit=0, percent=percent))
        limits.append(Standing(whole, tuple(parts)))
    return limits


async def apply_standing_limits(pool: asyncpg.Pool, limits: Sequence[Standing]) -> list[str]:
    """
    Make the budgets be what the settings say, if the settings have changed since they were applied last.

    What an operator changed since then stays until the settings change. A budget that they no longer name is removed,
    unless an operator made allocations of it.

    Returns:
        One line per budget that was set, removed or kept.

    Raises:
        ConfigError: an allocation does not fit beside those that operators made; what was set before it stays set.
    """
    wanted = _wanted(limits)
    stored = await pool.fetchval(_SQL["config"], _KEY) or {"wanted": {}, "ids": []}
    if stored["wanted"] == wanted:
        return []
    if limits and stored["wanted"] == _wanted_once(limits):
        ids, lines = await _convert(pool, limits, stored["ids"])
    else:
        ids, lines = await _apply(pool, limits, stored["ids"])
    await pool.execute(_SQL["set_config"], _KEY, {"wanted": wanted, "ids": ids})
    return lines


async def _apply(pool: asyncpg.Pool, limits: Sequence[Standing], stored: Iterable[str]) -> tuple[list[str], list[str]]:
    lines, ids = [], []
    parents: list[Budget] = []
    for limit in limits:
        parents.append(await _set(pool, limit.spec))
        lines.append(f"budget {limit.spec.name!r}: limit {_amount(limit.spec.limit)} {limit.spec.currency}")
    # What is no longer named goes before new parts are set: it would leave them too little of the parent.
    specs = [spec for limit in limits for spec in (limit.spec, *limit.parts)]
    said, kept = await _remove_all_but(pool, specs, stored)
    lines += said
    there = {_identity(budget.spec): budget for budget in await list_limits(pool)}
    for limit, parent in zip(limits, parents, strict=True):
        ids.append(str(parent.budget_id))
        # What becomes less goes first, so that the sum never passes 100 % on the way from one split to another.
        for spec in sorted(limit.parts, key=lambda part: _growth(part, there.get(_identity(part)), parent)):
            ids.append(str((await _set(pool, replace(spec, parent_id=parent.budget_id))).budget_id))
            lines.append(f"budget {spec.name!r}: {percent_text(spec.percent)} % of {parent.spec.name!r}")
    return [*ids, *kept], lines


async def _convert(
    pool: asyncpg.Pool, limits: Sequence[Standing], stored: Sequence[str]
) -> tuple[list[str], list[str]]:
    """
    Turn the fixed amounts that an earlier release made of unchanged settings into allocations.

    One that an operator has changed or removed since then stays as it is.
    """
    there = {_identity(budget.spec): budget for budget in await list_limits(pool)}
    lines = []
    for limit in limits:
        parent = there.get(_identity(limit.spec))
        for spec in limit.parts:
            budget = there.get(_identity(spec))
            if parent and budget and budget.spec.parent_id is None and budget.spec.limit == _part(limit, spec):
                # All but the amount is as the operator may have set it.
                part = replace(budget.spec, name=spec.name, limit=0, parent_id=parent.budget_id, percent=spec.percent)
                await _set(pool, part)
                lines.append(f"budget {spec.name!r}: now {percent_text(spec.percent)} % of {parent.spec.name!r}")
    return list(stored), lines


async def _set(pool: asyncpg.Pool, spec: LimitSpec) -> Budget:
    try:
        return (await set_limit(pool, spec, actor=ACTOR))[0]
    except Rejected as error:
        raise ConfigError(f"the limit {spec.name!r} of the settings cannot be set: {error}") from None


async def _remove_all_but(
    pool: asyncpg.Pool, specs: Iterable[LimitSpec], stored: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Remove those of the *stored* ids that are not about *specs*; what was done, and the ids that had to be kept."""
    named = {_identity(spec) for spec in specs}
    there = {str(budget.budget_id): budget for budget in await list_limits(pool)}
    gone = [there[budget_id] for budget_id in stored if budget_id in there]
    gone = [budget for budget in gone if _identity(budget.spec) not in named]
    lines, kept = [], []
    for budget in sorted(gone, key=lambda one: -len(ancestry(one))):
        try:
            await remove_limit(pool, budget.budget_id, actor=ACTOR)
            lines.append(f"budget {budget.spec.name!r}: removed, the settings no longer name it")
        except Conflict as error:
            kept.append(str(budget.budget_id))
            lines.append(f"budget {budget.spec.name!r}: kept, though the settings no longer name it: {error}")
        except NotFound:
            continue  # another gateway that starts now was first
    return lines, kept


def _growth(part: LimitSpec, now: Budget | None, parent: Budget) -> Decimal:
    same = now is not None and now.spec.parent_id == parent.budget_id
    taken = now.spec.percent if now and same else None
    return (part.percent or Decimal(0)) - (taken or Decimal(0))


def _wanted(limits: Iterable[Standing]) -> dict[str, str]:
    said = {_key(limit.spec): _amount(limit.spec.limit) for limit in limits}
    return said | {_key(part): f"{percent_text(part.percent)} %" for limit in limits for part in limit.parts}


def _wanted_once(limits: Iterable[Standing]) -> dict[str, str]:
    """What release 0.1 would have kept of the same settings: there, allocations were amounts, and so named."""
    said = {}
    for limit in limits:
        said[_key(limit.spec)] = _amount(limit.spec.limit)
        for part in limit.parts:
            said[_key(replace(part, name=f"{part.name} ({part.percent} %)"))] = _amount(_part(limit, part))
    return said


def _part(limit: Standing, part: LimitSpec) -> int:
    return int(limit.spec.limit * (part.percent or 0) / 100)


def _amount(limit: int) -> str:
    return format_nanos(Nanos(limit))


def _identity(spec: LimitSpec) -> Any:
    """What makes two limits be about the same budget."""
    return json.dumps(spec.scope.to_json(), sort_keys=True), spec.period, spec.unit


def _key(spec: LimitSpec) -> str:
    scope = json.dumps(spec.scope.to_json(), sort_keys=True)
    return f"{spec.period.value} {scope} {spec.currency} {spec.timezone} {spec.name}"
