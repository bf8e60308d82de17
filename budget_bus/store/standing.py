"""The limits that the settings name (DAILY_BUDGET_LIMIT, RHETOR_ALLOCATION, ...) as budgets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from uuid import UUID

import asyncpg

from budget_bus.errors import NotFound
from budget_bus.money import Nanos, format_nanos, parse_amount
from budget_bus.policy.budget import LimitSpec, Unit
from budget_bus.policy.scope import Scope, parse_scope
from budget_bus.policy.windows import Period
from budget_bus.store.limits import remove_limit, set_limit
from budget_bus.store.sql import queries

_SQL = queries("catalogue")
_KEY = "standing_limits"
ACTOR = "settings"
OTHER = "OTHER"


def standing_limits(
    amounts: Mapping[Period, str | None], allocations: Mapping[str, Decimal], *, currency: str, timezone: str
) -> list[LimitSpec]:
    """
    A global cost budget per period of *amounts*, and per component of *allocations* its percentage of each.

    OTHER is shared by all components that are not named. An allocation is rounded down to nanos, so that together
    they never pass what they are parts of.
    """
    named = sorted(component.lower() for component in allocations if component != OTHER)
    specs = []
    for period, text in amounts.items():
        if text is None:
            continue
        limit = parse_amount(text)
        scopes: list[tuple[str, Scope, int]] = [(period.value, Scope(), limit)]
        for component, percent in sorted(allocations.items()):
            rule = {"not": named} if component == OTHER else component.lower()
            scope = parse_scope({"component": rule}) if rule != {"not": []} else None
            if scope:
                part = int(limit * percent / 100)
                scopes.append((f"{period.value} {component.lower()} ({percent} %)", scope, part))
        specs += [
            LimitSpec(name, scope, period, Unit.COST, amount, currency, timezone=timezone)
            for name, scope, amount in scopes
        ]
    return specs


async def apply_standing_limits(pool: asyncpg.Pool, specs: list[LimitSpec]) -> list[str]:
    """
    Make the budgets be what the settings say, if the settings have changed since they were applied last.

    What an operator changed since then stays until the settings change. A budget that they no longer name is removed.

    Returns:
        One line per budget that was set or removed.
    """
    wanted = {_identity(spec): format_nanos(Nanos(spec.limit)) for spec in specs}
    stored = await pool.fetchval(_SQL["config"], _KEY) or {"wanted": {}, "ids": []}
    if stored["wanted"] == wanted:
        return []
    lines, ids = [], []
    for spec in specs:
        budget, _ = await set_limit(pool, spec, actor=ACTOR)
        ids.append(str(budget.budget_id))
        lines.append(f"budget {spec.name!r}: limit {format_nanos(Nanos(spec.limit))} {spec.currency}")
    for gone in set(stored["ids"]) - set(ids):
        with suppress(NotFound):
            await remove_limit(pool, UUID(gone), actor=ACTOR)
            lines.append(f"budget {gone}: removed, the settings no longer name it")
    await pool.execute(_SQL["set_config"], _KEY, {"wanted": wanted, "ids": ids})
    return lines


def _identity(spec: LimitSpec) -> str:
    scope = json.dumps(spec.scope.to_json(), sort_keys=True)
    return f"{spec.period.value} {scope} {spec.currency} {spec.timezone} {spec.name}"
