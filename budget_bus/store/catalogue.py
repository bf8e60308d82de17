"""The budgets in force, cached by the catalogue's version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from budget_bus.policy.budget import Basis, Budget, LimitSpec, Policy, Raise, Unit
from budget_bus.policy.exchange import NO_RATES, ExchangeRates, utc_day
from budget_bus.policy.pause import Pause
from budget_bus.policy.scope import Call, parse_scope
from budget_bus.policy.windows import Period, Window
from budget_bus.store import exchange, pauses
from budget_bus.store.sql import queries

_SQL = queries("catalogue")
_CACHED_CALLS = 20_000
_BUCKET_S = 900  # windows begin at multiples of 15 minutes in every zone


Place = tuple[UUID, str, datetime]  # of a balance: budget, context (or ''), window start


def place_of(budget: Budget, window: Window) -> Place:
    """Where the balance of *budget* in *window* is."""
    return (budget.budget_id, window.context_id, window.start)


def budgets_from_rows(rows: Iterable[Any], raises: Iterable[Any] = ()) -> list[Budget]:
    """Budgets in the order of their rows, each with its raises and, if it is an allocation, with its parent."""
    by_id = {row["budget_id"]: row for row in rows}
    raised: dict[UUID, list[Raise]] = {}
    for row in raises:
        values = (row["raise_id"], row["amount"], row["starts_at"], row["ends_at"], row["reason"])
        raised.setdefault(row["budget_id"], []).append(Raise(*values))
    built: dict[UUID, Budget] = {}

    def build(row: Any) -> Budget:
        budget_id, parent_id = row["budget_id"], row["parent_id"]
        if budget_id not in built:
            parent = build(by_id[parent_id]) if parent_id in by_id else None
            budget = budget_from_row(row)
            built[budget_id] = replace(budget, raises=tuple(raised.get(budget_id, ())), parent=parent)
        return built[budget_id]

    return [build(row) for row in by_id.values()]


def budget_from_row(row: Any) -> Budget:
    """A budget as its row says, without its raises and parent."""
    spec = LimitSpec(
        name=row["name"],
        scope=parse_scope(row["scope"]),
        period=Period(row["period"]),
        unit=Unit(row["unit"]),
        limit=row["limit_amount"] or 0,
        currency=row["currency"],
        policy=Policy(row["policy"]) if row["policy"] else None,
        ceiling_percent=row["ceiling_percent"],
        thresholds=tuple(row["thresholds"]),
        timezone=row["timezone"],
        week_start=row["week_start"],
        month_anchor=row["month_anchor"],
        shadow=row["shadow"],
        parent_id=row["parent_id"],
        percent=row["percent"],
        rollover_cap=row["rollover_cap"],
        context_ttl_s=row["context_ttl_s"],
        critical_may_pass=row["critical_may_pass"],
        alert_on=tuple(Basis(name) for name in row["alert_on"]),
    )
    return Budget(row["budget_id"], spec, row["limit_version"], rollover_since=row["rollover_since"])


@dataclass(slots=True)
class Catalogue:
    """
    What a consumer knows of the budgets. `refresh` inside a batch's transaction, after the shared lock, makes sure
    that no decision uses an old one.

    `default_policy` is what budgets without a policy of their own follow: the setting, or what an operator set.
    """

    setting_policy: Policy
    version: int = 0
    default_policy: Policy = Policy.WARN
    budgets: tuple[Budget, ...] = ()
    pauses: tuple[Pause, ...] = ()  # those that nobody has ended; whether one holds depends on the moment
    balance_ids: dict[Place, int] = field(default_factory=dict)
    contexts: dict[tuple[UUID, str], list[Window]] = field(default_factory=dict)  # windows of per_context budgets
    has_contexts: bool = False
    equivalents: tuple[tuple[str, ...], ...] = ()  # models that the operator holds to be equal, as provider/model
    rates: ExchangeRates = NO_RATES
    currencies: tuple[str, ...] = ()  # of the budgets that count cost
    begun: set[tuple[UUID, str]] = field(default_factory=set)  # contexts with a window that may yet be rolled back
    raised: set[UUID] = field(default_factory=set)  # alerts that are known to be committed
    _calls: dict[Call, tuple[Budget, ...]] = field(default_factory=dict)
    _windows: dict[tuple[UUID, int], Window] = field(default_factory=dict)
    _rates_read: int = 0

    async def refresh(self, connection: asyncpg.Connection, version: int | None = None) -> None:
        """Read the budgets again unless *version* (asked for when None) is the one that is known."""
        for key in self.begun:
            self.contexts.pop(key, None)
        self.begun.clear()
        if version is None:
            version = await catalogue_version(connection)
        if version == self.version and len(self.balance_ids) + len(self.contexts) + len(self.raised) < _CACHED_CALLS:
            return
        budgets = await read_budgets(connection)
        level = await connection.fetchval(_SQL["config"], "enforcement_level")
        self.default_policy = Policy(level) if level else self.setting_policy
        self.pauses = tuple(await pauses.unended(connection))
        groups = await connection.fetchval(_SQL["config"], "equivalents") or ()
        self.equivalents = tuple(tuple(group) for group in groups)
        self.use(budgets)
        if (count := await exchange.count(connection)) != self._rates_read:
            self.rates, self._rates_read = await exchange.read(connection), count
        self.version = version

    def use(self, budgets: Iterable[Budget]) -> None:
        """Take *budgets* for those in force, and forget what was known of others."""
        self.budgets = tuple(budgets)
        self.has_contexts = any(budget.spec.period is Period.PER_CONTEXT for budget in self.budgets)
        self.currencies = tuple(sorted({budget.spec.currency for budget in self.budgets if budget.spec.currency}))
        self.balance_ids.clear()
        self.contexts.clear()
        self.raised.clear()
        self._calls.clear()
        self._windows.clear()

    def matching(self, call: Call) -> tuple[Budget, ...]:
        """The budgets that *call* belongs to, in the catalogue's order."""
        found = self._calls.get(call)
        if found is None:
            if len(self._calls) >= _CACHED_CALLS:
                self._calls.clear()
            found = self._calls[call] = tuple(b for b in self.budgets if _admits(b, call))
        return found

    def window(self, budget: Budget, at: datetime, call: Call) -> Window:
        """The window of *budget* that *call* at *at* falls in; `contexts.resolve` must have seen it before."""
        if budget.spec.period is Period.PER_CONTEXT:
            window = self.context_window(budget, at, call)
            assert window is not None  # noqa: S101  # resolve has begun it
            return window
        key = (budget.budget_id, int(at.timestamp()) // _BUCKET_S)
        found = self._windows.get(key)
        if found is None:
            if len(self._windows) >= _CACHED_CALLS:
                self._windows.clear()
            found = self._windows[key] = budget.window(at)
        return found

    def context_window(self, budget: Budget, at: datetime, call: Call) -> Window | None:
        """The window of the call's context in a per_context budget, if it is known here."""
        windows = self.contexts.get((budget.budget_id, call.context_id or ""), ())
        return next((window for window in windows if window.holds(at)), None)

    def cost_in(self, budget: Budget, nanos: int, currency: str, at: datetime, *, up: bool = False) -> int | None:
        """A cost of *currency* in what *budget* counts in, by the rates of the day of *at*; None without a rate."""
        target = budget.spec.currency or currency
        return nanos if target == currency else self.rates.convert(nanos, currency, target, utc_day(at), up=up)

    def policy_of(self, budget: Budget) -> Policy:
        return budget.spec.policy or self.default_policy


async def catalogue_version(connection: asyncpg.Connection | asyncpg.Pool) -> int:
    """The number that every change of a budget, a price or a run-time setting raises."""
    return int(await connection.fetchval(_SQL["version"]))


async def read_budgets(connection: asyncpg.Connection | asyncpg.Pool) -> list[Budget]:
    """All budgets in force, oldest first."""
    rows = await connection.fetch(_SQL["budgets"])
    return budgets_from_rows(rows, await connection.fetch(_SQL["raises"]))


def _admits(budget: Budget, call: Call) -> bool:
    if budget.spec.period is Period.PER_CONTEXT and call.context_id is None:
        return False
    return budget.spec.scope.admits(call)
