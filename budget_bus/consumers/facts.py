"""A change of balances -> the alerts and updates that the outbox publishes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import asyncpg

from budget_bus.events import topics
from budget_bus.policy.alerts import reached
from budget_bus.policy.budget import Balance, Budget, Policy, Unit
from budget_bus.policy.windows import Window
from budget_bus.store import outbox
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.outbox import Crossing, Message

_ALERTS = uuid.UUID(
    "b8e1f6c4-58c4-5a53-a5d8-0f6b3d0c7a21"
)  # the name space of alert ids: the same crossing, the same id
_KINDS = {Unit.COST: "cost", Unit.TOKENS: "token", Unit.REQUESTS: "request"}

Change = tuple[Budget, Window, Balance]  # what a window's balance is now


async def announce(
    connection: asyncpg.Connection, catalogue: Catalogue, changes: Mapping[int, Change], *, now: datetime
) -> None:
    """Queue the updates of *changes* and the alerts of the thresholds that they reach, in this transaction."""
    messages = [_update(*change, now) for change in changes.values()]
    crossings: list[Crossing] = []
    for budget, window, balance in changes.values():
        if catalogue.policy_of(budget) is not Policy.IGNORE:
            crossings += _crossings(budget, window, balance, now)
    unknown = [crossing for crossing in crossings if crossing.alert_id not in catalogue.raised]
    new = await outbox.raise_alerts(connection, unknown, at=now)
    for crossing in new:
        messages.append(Message(topics.BUDGET_ALERTS, _key(crossing.budget_id), outbox.to_json(crossing.payload)))
    # What did not come back as new is committed already; what is new here may still be rolled back.
    catalogue.raised |= {crossing.alert_id for crossing in unknown} - {crossing.alert_id for crossing in new}
    await outbox.put(connection, messages)


def _crossings(budget: Budget, window: Window, after: Balance, now: datetime) -> list[Crossing]:
    found = []
    for percent in reached(budget, after.spent):
        state = "exceeded" if percent >= 100 else "approaching"
        kind = f"{_KINDS[budget.spec.unit]}_limit_{state}"
        name = f"{budget.budget_id}/{window.start.isoformat()}/{percent}/{budget.limit_version}/{kind}"
        alert_id = uuid.uuid5(_ALERTS, name)
        payload = _alert(budget, window, after, alert_id=alert_id, kind=kind, percent=percent, now=now)
        found.append(Crossing(alert_id, budget.budget_id, window.start, percent, budget.limit_version, kind, payload))
    return found


def _alert(
    budget: Budget, window: Window, balance: Balance, *, alert_id: uuid.UUID, kind: str, percent: int, now: datetime
) -> dict[str, Any]:
    spec = budget.spec
    unit = spec.currency if spec.unit is Unit.COST else spec.unit.value
    spent, limit = budget.write(balance.spent), budget.write(spec.limit)
    severity = "info" if percent < 80 else "warning" if percent < 100 else "error"
    return {
        "alert_id": str(alert_id),
        "type": kind,
        "severity": severity,
        "budget_id": str(budget.budget_id),
        "name": spec.name,
        "scope": spec.scope.to_json(),
        "period": spec.period.value,
        **_window(window),
        "threshold_percent": percent,
        "basis": "spent",
        "limit": limit,
        "spent": spent,
        "held": budget.write(balance.held),
        "unit": spec.unit.value,
        "currency": spec.currency,
        "message": f"budget {spec.name!r} ({spec.period}) has spent {spent} of {limit} {unit}: {percent} % is reached",
        "raised_at": write_instant(now),
        "limit_version": budget.limit_version,
    }


def _update(budget: Budget, window: Window, after: Balance, now: datetime) -> Message:
    fact = {
        "budget_id": str(budget.budget_id),
        **_window(window),
        "limit": budget.write(budget.spec.limit),
        "spent": budget.write(after.spent),
        "held": budget.write(after.held),
        "unconfirmed": budget.write(after.unconfirmed),
        "available": budget.write(budget.spec.limit - after.committed),
        "unit": budget.spec.unit.value,
        "currency": budget.spec.currency,
        "as_of": write_instant(now),
    }
    return Message(topics.BUDGET_UPDATES, _key(budget.budget_id), outbox.to_json(fact))


def write_instant(at: datetime) -> str:
    """An instant as RFC 3339 UTC."""
    return at.isoformat().replace("+00:00", "Z")


def _window(window: Window) -> dict[str, str | None]:
    return {
        "window_start": write_instant(window.start),
        "window_end": write_instant(window.end) if window.end else None,
    }


def _key(budget_id: uuid.UUID) -> bytes:
    return str(budget_id).encode()
