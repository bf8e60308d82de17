"""What the books held when a span began: budgets as proposed, balances by the ledger, and the holds that were open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg

from budget_bus.consumers.leases import of_calls
from budget_bus.consumers.weighing import Weighed, lines_of
from budget_bus.insight.replay.accounts import Accounts
from budget_bus.insight.replay.asked import Asked, asked_from
from budget_bus.insight.replay.proposal import Proposal
from budget_bus.policy.budget import Balance, Budget, LimitSpec
from budget_bus.policy.decide import Action, Verdict
from budget_bus.policy.holds import Part
from budget_bus.policy.windows import EPOCH, Period, Window
from budget_bus.store import replays
from budget_bus.store.catalogue import Catalogue
from budget_bus.store.replays import Span

_WINDOWS = 2  # of each budget that have their sums from the ledger: clocks differ at the edge of a window


async def begin(connection: asyncpg.Connection, catalogue: Catalogue, span: Span, proposal: Proposal) -> Accounts:
    """The accounts as *span* found them, of the budgets in force changed by *proposal*; *catalogue* is used up."""
    await catalogue.refresh(connection)
    use(catalogue, proposal, span)
    accounts = Accounts(catalogue)
    for budget in catalogue.budgets:
        if budget.spec.period is Period.PER_CONTEXT:
            await _begin_contexts(connection, accounts, span, budget)
        else:
            await _begin_windows(connection, accounts, span, budget)
    await _place_holds(connection, accounts, span)
    accounts.moved.clear()
    return accounts


def use(catalogue: Catalogue, proposal: Proposal, span: Span) -> None:
    """Let *catalogue* have the budgets that are proposed."""
    specs = {b.budget_id: b.spec for b in catalogue.budgets if b.budget_id not in proposal.removed}
    specs |= proposal.limits
    were = {budget.budget_id: budget for budget in catalogue.budgets}
    built: dict[UUID, Budget] = {}
    for budget_id in specs:
        _build(budget_id, specs, were, built, span)
    catalogue.use(built[budget_id] for budget_id in specs)


def _build(
    budget_id: UUID, specs: Mapping[UUID, LimitSpec], were: Mapping[UUID, Budget], built: dict[UUID, Budget], span: Span
) -> Budget:
    if budget_id not in built:
        spec, was = specs[budget_id], were.get(budget_id)
        of = spec.parent_id
        parent = _build(of, specs, were, built, span) if of in specs and of is not None else None
        since = None
        if spec.rollover_cap is not None:
            since = (was.rollover_since if was else None) or span.start
        version, raises = (was.limit_version, was.raises) if was else (1, ())
        built[budget_id] = Budget(budget_id, spec, version, raises, parent, since)
    return built[budget_id]


async def _begin_windows(connection: asyncpg.Connection, accounts: Accounts, span: Span, budget: Budget) -> None:
    window = budget.window(span.start)
    if budget.rollover_since is not None:
        await _begin_carrying(connection, accounts, span, budget, window)
        return
    for _ in range(_WINDOWS):
        if spent := await replays.sum_before(connection, span, budget, window):
            accounts.open(budget, window, Balance(spent))
        if window.end is None:
            return
        window = budget.window(window.end)


async def _begin_carrying(
    connection: asyncpg.Connection, accounts: Accounts, span: Span, budget: Budget, current: Window
) -> None:
    """The window at the span's begin, unless the span bears it, and the last one before it, with what they carried."""
    rows = [
        row
        for row in await replays.windows(connection, span, [budget.budget_id], EPOCH)
        if row["window_start"] <= current.start and budget.window(row["window_start"]) == _window(row)
    ]
    # The last one has no follower; there may be no window yet.
    for row, follower in list(zip(rows, [*rows[1:], None], strict=False))[-2:]:
        if row["later"]:
            continue
        window = _window(row)
        out = row["carried_out"] if follower is not None and not follower["later"] else 0
        spent = await replays.sum_before(connection, span, budget, window)
        accounts.open(budget, window, Balance(spent, carried_in=row["carried_in"], carried_out=out))


def _window(row: Any) -> Window:
    return Window(row["window_start"], row["window_end"], row["context_id"])


async def _begin_contexts(connection: asyncpg.Connection, accounts: Accounts, span: Span, budget: Budget) -> None:
    for row in await replays.windows(connection, span, [budget.budget_id], span.start):
        window = _window(row)
        accounts.catalogue.contexts.setdefault((budget.budget_id, window.context_id), []).append(window)
        if window.start < span.start and (spent := await replays.sum_before(connection, span, budget, window)):
            accounts.open(budget, window, Balance(spent))


async def _place_holds(connection: asyncpg.Connection, accounts: Accounts, span: Span) -> None:
    leases: list[Asked] = []
    for row in await replays.open_holds(connection, span):
        asked = asked_from(_as_decision(row))
        if asked is None or _ended_before(row, span):
            continue
        _place(accounts, asked)
        if asked.lease_calls is not None:
            leases.append(asked)
        if _expired_before(row, span):
            accounts.expire(asked.request_id)
    if leases:
        since = min(lease.at for lease in leases)
        for part in await replays.taken(connection, span, [lease.request_id for lease in leases], since):
            took = Part(part["cost_nanos"] or 0, part["tokens"], part["calls"])
            accounts.give_back(part["request_id"], took)


def _as_decision(row: Any) -> dict[str, Any]:
    return {**row, "action": "allow"}


def _ended_before(row: Any, span: Span) -> bool:
    if row["topic"] is not None:
        return span.booked_before(row["topic"], row["part"], row["record_offset"])
    if row["voided"] is not None:
        return bool(row["voided"] < span.first)
    return row["state"] in ("voided", "expired") and row["expired"] is None  # by a release that kept no order


def _expired_before(row: Any, span: Span) -> bool:
    if row["expired"] is None:
        return bool(row["state"] == "unconfirmed")
    return bool(row["expired"] < span.first)


def _place(accounts: Accounts, asked: Asked) -> None:
    calls = asked.answered.calls
    estimate = of_calls(asked.estimate, calls) if calls > 1 else asked.estimate
    accounts.know(asked.call, asked.at)
    lines = lines_of(accounts.catalogue, asked.call, estimate, asked.at, accounts.balance, calls=calls)
    weighed = Weighed(lines, Verdict(Action.ALLOW), estimate, calls)
    accounts.place(asked.request_id, weighed, asked.call, asked.at, lease=asked.lease_calls is not None)
