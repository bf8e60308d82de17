"""A change of balances -> the alerts and updates that the outbox publishes."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

import asyncpg

from budget_bus.events import topics
from budget_bus.money import Nanos, format_nanos
from budget_bus.policy.alerts import Crossing as Crossed
from budget_bus.policy.alerts import crossings
from budget_bus.policy.budget import Balance, Basis, Budget, Policy, Reached, Unit
from budget_bus.policy.windows import Window
from budget_bus.store import balances, outbox
from budget_bus.store.anomalies import Finding
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.outbox import Crossing, Message

_ALERTS = uuid.UUID(
    "b8e1f6c4-58c4-5a53-a5d8-0f6b3d0c7a21"
)  # the name space of alert ids: the same crossing, the same id
ESTIMATE_OVERRUN = "estimate_overrun"
UNRESERVED_USAGE = "unreserved_usage"
CRITICAL_PASSED = "critical_passed"
WINDOW_RESTATED = "window_restated"
PRICE_DRIFT = "price_drift"
ANOMALY = "anomaly"
_NOTICES = {
    ESTIMATE_OVERRUN: ("warning", "was charged more by a call than was set aside for it"),
    UNRESERVED_USAGE: ("warning", "was charged by a call that had not asked: it cannot be refused, only counted"),
    CRITICAL_PASSED: ("error", "was passed by a critical call that it would have denied"),
}
_KINDS = {Unit.COST: "cost", Unit.TOKENS: "token", Unit.REQUESTS: "request"}

Change = tuple[Budget, Window, Balance]  # what a window's balance is now
Notices = Mapping[int, Collection[str]]  # balance_id -> types of alerts that have no threshold


async def announce(
    connection: asyncpg.Connection,
    catalogue: Catalogue,
    changes: Mapping[int, Change],
    *,
    now: datetime,
    notices: Notices = MappingProxyType({}),
) -> None:
    """
    Queue the updates of *changes* and the alerts of the thresholds that they cross, in this transaction.

    The balances are locked: what they have reached is compared and remembered with the change itself.
    """
    messages = [_update(*change, now) for change in changes.values()]
    raised: list[Crossing] = []
    reached: dict[int, Reached] = {}
    for balance_id, change in changes.items():
        budget, window, balance = change
        if catalogue.policy_of(budget) is Policy.IGNORE:
            continue
        found, state = crossings(budget, balance, budget.limit_in(window, balance, now))
        if state != balance.reached:
            reached[balance_id] = state
        raised += [_crossing(change, one, now) for one in found]
        raised += [_notice(change, kind, now) for kind in notices.get(balance_id, ())]
    unknown = [crossing for crossing in raised if crossing.alert_id not in catalogue.raised]
    new = await outbox.raise_alerts(connection, unknown, at=now)
    for crossing in new:
        messages.append(Message(topics.BUDGET_ALERTS, _key(crossing.budget_id), outbox.to_json(crossing.payload)))
    # What did not come back as new is committed already; what is new here may still be rolled back.
    catalogue.raised |= {crossing.alert_id for crossing in unknown} - {crossing.alert_id for crossing in new}
    await balances.reach(connection, reached)
    await outbox.put(connection, messages)


async def tell_restated(
    connection: asyncpg.Connection, changes: Iterable[tuple[Change, int]], restatement_id: uuid.UUID, *, now: datetime
) -> None:
    """Alert of closed windows that a restatement has moved, each by how much; once per restatement."""
    raised = []
    for change, moved in changes:
        budget, _, balance = change
        was = budget.write(balance.spent - moved)
        fact = f"is closed and was restated from {was} to {_with_unit(budget, balance.spent)}, by a price correction"
        told = _Told(WINDOW_RESTATED, "warning", fact, 0, Basis.SPENT)
        raised.append(_alert(change, told, key=f"{WINDOW_RESTATED}/{restatement_id}", now=now))
    messages = [
        Message(topics.BUDGET_ALERTS, _key(crossing.budget_id), outbox.to_json(crossing.payload))
        for crossing in await outbox.raise_alerts(connection, raised, at=now)
    ]
    await outbox.put(connection, messages)


class Drifted(NamedTuple):
    """What the books have of a model (None: of items that name none) and what its provider charged, in nanos."""

    provider: str
    model: str | None
    currency: str
    ours: int
    theirs: int
    percent: str | None  # the difference, of what was charged


async def tell_drift(
    connection: asyncpg.Connection, drifted: Iterable[Drifted], *, first: date, last: date, now: datetime
) -> int:
    """
    Alert of models whose provider charged something else in the days from *first* to *last*; once for the same days.

    It is no budget's alert: `budget_id` is derived from provider and model, `limit` is what was charged, `spent` what
    the books have.

    Returns:
        How many of them were not told before.
    """
    raised = []
    for one in drifted:
        name = f"{one.provider}/{one.model or 'items without a model'}"
        start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (first, last + timedelta(days=1)))
        alert_id = uuid.uuid5(_ALERTS, f"{PRICE_DRIFT}/{name}/{one.currency}/{first}/{last}")
        theirs, ours = format_nanos(one.theirs), format_nanos(one.ours)
        by = "" if one.percent is None else f", a drift of {one.percent} %"
        said = {
            "type": PRICE_DRIFT,
            "severity": "warning",
            "name": name,
            "scope": {"provider": one.provider, **({"model": one.model} if one.model else {})},
            "limit": theirs,
            "spent": ours,
            "unit": Unit.COST.value,
            "currency": one.currency,
            "message": f"{name}: {theirs} {one.currency} charged from {first} to {last}, the books have {ours}{by}",
        }
        payload = _unbudgeted(alert_id, name, said, start=start, end=end, now=now)
        key = f"{PRICE_DRIFT}/{one.currency}/{last}"
        raised.append(Crossing(alert_id, uuid.uuid5(_ALERTS, name), "", start, 0, 0, key, payload))
    return await _tell(connection, raised, now)


async def tell_anomaly(
    connection: asyncpg.Connection, anomaly_id: uuid.UUID, found: Finding, *, paused_until: datetime | None
) -> int:
    """
    Alert of an anomaly, once; `limit` is the edge of what is usual and `spent` what was observed.

    With *paused_until* the breaker has paused its scope, which is an error rather than a warning. It is no budget's
    alert: `budget_id` is derived from the scope.

    Returns:
        0 if it was told before.
    """
    about = outbox.to_json(found.scope).decode()
    name = f"{ANOMALY}/{about}"
    alert_id = uuid.uuid5(_ALERTS, f"{ANOMALY}/{anomaly_id}")
    write = format_nanos if found.unit == Unit.COST else str
    paused = f"; paused until {write_instant(paused_until)}" if paused_until else ""
    said = {
        "type": ANOMALY,
        "severity": "error" if paused_until else "warning",
        "name": ", ".join(f"{value}" for value in found.scope.values()),
        "scope": found.scope,
        "limit": write(Nanos(found.expected)),
        "spent": write(Nanos(found.observed)),
        "unit": found.unit,
        "currency": found.currency,
        "message": found.reason + paused,
    }
    payload = _unbudgeted(alert_id, name, said, start=found.since, end=found.at, now=found.at)
    payload["context_id"] = found.scope.get("context_id")
    crossing = Crossing(alert_id, uuid.uuid5(_ALERTS, name), "", found.since, 0, 0, f"{ANOMALY}/{anomaly_id}", payload)
    return await _tell(connection, [crossing], found.at)


async def _tell(connection: asyncpg.Connection, raised: Iterable[Crossing], now: datetime) -> int:
    """Publish those that are new; how many that are."""
    new = await outbox.raise_alerts(connection, list(raised), at=now)
    await outbox.put(
        connection, [Message(topics.BUDGET_ALERTS, _key(one.budget_id), outbox.to_json(one.payload)) for one in new]
    )
    return len(new)


def _unbudgeted(
    alert_id: uuid.UUID, name: str, said: Mapping[str, Any], *, start: datetime, end: datetime, now: datetime
) -> dict[str, Any]:
    """An alert that is about no budget; its `budget_id` is derived from *name*."""
    return {
        "alert_id": str(alert_id),
        "budget_id": str(uuid.uuid5(_ALERTS, name)),
        "period": "total",
        "window_start": write_instant(start),
        "window_end": write_instant(end),
        "context_id": None,
        "threshold_percent": 0,
        "basis": Basis.SPENT.value,
        "held": "0",
        "unconfirmed": "0",
        "raised_at": write_instant(now),
        "limit_version": 0,
        **said,
    }


async def tell_forecast(
    connection: asyncpg.Connection, change: Change, crossed: Iterable[Crossed], *, expected: int, now: datetime
) -> int:
    """
    Alert of thresholds that the amount *expected* at a window's end has passed; once per threshold and limit version.

    Returns:
        How many of them were not told before.
    """
    new = await outbox.raise_alerts(connection, [_crossing(change, one, now, expected) for one in crossed], at=now)
    await outbox.put(
        connection, [Message(topics.BUDGET_ALERTS, _key(one.budget_id), outbox.to_json(one.payload)) for one in new]
    )
    return len(new)


_VERBS = {
    Basis.SPENT: "has spent",
    Basis.COMMITTED: "has spent or set aside",
    Basis.FORECAST: "is forecast to come to",
}


def _crossing(change: Change, crossed: Crossed, now: datetime, expected: int | None = None) -> Crossing:
    budget, window, balance = change
    percent, spent = crossed.percent, crossed.basis is Basis.SPENT
    state = "recovered" if not crossed.up else "exceeded" if percent >= 100 else "approaching"
    kind = f"{_KINDS[budget.spec.unit]}_limit_{state}"
    limit = _with_unit(budget, budget.limit_in(window, balance, now))
    taken = balance.spent if spent else balance.committed
    amount = budget.write(taken if expected is None else expected)
    fact = f"{_VERBS[crossed.basis]} {amount} of {limit}: "
    fact += f"{percent} % is reached" if crossed.up else f"that is below {percent} % again"
    severity = "info" if percent < 80 or not crossed.up else "warning" if percent < 100 else "error"
    told = _Told(kind, severity, fact, percent, crossed.basis)
    # One kind on two bases is two alerts.
    return _alert(change, told, key=kind if spent else f"{kind}/{crossed.basis}", now=now)


def _notice(change: Change, kind: str, now: datetime) -> Crossing:
    severity, fact = _NOTICES[kind]
    return _alert(change, _Told(kind, severity, fact, 0, Basis.SPENT), key=kind, now=now)


class _Told(NamedTuple):
    kind: str
    severity: str
    fact: str
    percent: int
    basis: Basis


def _alert(change: Change, told: _Told, *, key: str, now: datetime) -> Crossing:
    budget, window, balance = change
    # What has no threshold has nothing to do with the limit: a changed one does not tell of it again.
    spec, percent, version = budget.spec, told.percent, budget.limit_version if told.percent else 0
    name = f"{budget.budget_id}/{window.start.isoformat()}/{percent}/{version}/{key}"
    alert_id = uuid.uuid5(_ALERTS, f"{name}/{window.context_id}" if window.context_id else name)
    whose = f", context {window.context_id!r}" if window.context_id else ""
    payload = {
        "alert_id": str(alert_id),
        "type": told.kind,
        "severity": told.severity,
        "budget_id": str(budget.budget_id),
        "name": spec.name,
        "scope": spec.scope.to_json(),
        "period": spec.period.value,
        **_window(window),
        "threshold_percent": percent,
        "basis": told.basis.value,
        "limit": budget.write(budget.limit_in(window, balance, now)),
        "spent": budget.write(balance.spent),
        "held": budget.write(balance.held),
        "unconfirmed": budget.write(balance.unconfirmed),
        "unit": spec.unit.value,
        "currency": spec.currency,
        "message": f"budget {spec.name!r} ({spec.period}{whose}) {told.fact}",
        "raised_at": write_instant(now),
        "limit_version": budget.limit_version,
    }
    return Crossing(alert_id, budget.budget_id, window.context_id, window.start, percent, version, key, payload)


def _with_unit(budget: Budget, amount: int) -> str:
    spec = budget.spec
    return f"{budget.write(amount)} {spec.currency if spec.unit is Unit.COST else spec.unit.value}"


def _update(budget: Budget, window: Window, after: Balance, now: datetime) -> Message:
    limit = budget.limit_in(window, after, now)
    fact = {
        "budget_id": str(budget.budget_id),
        **_window(window),
        "limit": budget.write(limit),
        "spent": budget.write(after.spent),
        "held": budget.write(after.held),
        "unconfirmed": budget.write(after.unconfirmed),
        "available": budget.write(limit - after.committed),
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
        "context_id": window.context_id or None,
    }


def _key(budget_id: uuid.UUID) -> bytes:
    return str(budget_id).encode()
