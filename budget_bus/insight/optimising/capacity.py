"""Limits that refused calls, limits that were never needed, and allocations that would admit more if cut otherwise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from budget_bus.insight.optimising.sharing import Cut, Part, best_cut
from budget_bus.insight.optimising.suggestion import Apply, Kind, Suggestion, command, scope_words
from budget_bus.insight.replay import Proposal
from budget_bus.money import NANOS_PER_UNIT
from budget_bus.policy.budget import Budget, Unit
from budget_bus.policy.windows import Period
from budget_bus.store.limits import percent_text
from budget_bus.store.optimising import Refused, WindowTaken

LEAST_WINDOWS = 3  # used ones, before a limit is said to be higher than needed
_NEEDED = 2  # times what was ever taken: a limit above that is said to be higher than needed
_ROOM_PERCENT = 125  # of what was ever taken, for a lowered limit
_MOST_CELLS = 4_000  # allocations times windows: seconds of a solver's time
_LEAST_GAIN = 0.001  # of what the parent's windows allow together

Change = tuple[Budget, Decimal]  # an allocation and its new percentage

_PERIOD_WORDS = {
    Period.HOURLY: "an hour",
    Period.DAILY: "a day",
    Period.WEEKLY: "a week",
    Period.MONTHLY: "a month",
    Period.TOTAL: "in total",
    Period.PER_CONTEXT: "per context",
}


@dataclass(frozen=True, slots=True)
class Pressure:
    """What the windows of budgets took, and what was refused there; budgets per context are in neither."""

    budgets: Sequence[Budget]
    taken: Mapping[UUID, Sequence[WindowTaken]]
    refused: Mapping[UUID, Sequence[Refused]]

    @classmethod
    def of(cls, budgets: Sequence[Budget], taken: Iterable[WindowTaken], refused: Iterable[Refused]) -> Pressure:
        """Sorted by budget."""
        shared = {b.budget_id for b in budgets if b.spec.period is not Period.PER_CONTEXT}
        by_taken: dict[UUID, list[WindowTaken]] = defaultdict(list)
        by_refused: dict[UUID, list[Refused]] = defaultdict(list)
        for window in taken:
            by_taken[window.budget_id].append(window)
        for denied in refused:
            if denied.budget_id in shared:
                by_refused[denied.budget_id].append(denied)
        return cls([b for b in budgets if b.budget_id in shared], by_taken, by_refused)

    def parts_of(self, budget: Budget) -> list[Budget]:
        """The allocations of a budget."""
        return [one for one in self.budgets if one.spec.parent_id == budget.budget_id]

    def committed(self, budget: Budget) -> dict[datetime, int]:
        """Window start -> what it took, in the budget's unit."""
        return {one.window_start: one.committed for one in self.taken.get(budget.budget_id, ())}

    def refuses(self, budget: Budget) -> bool:
        """Whether it refused anything."""
        return bool(self.refused.get(budget.budget_id))

    def asked(self, budget: Budget) -> dict[datetime, int]:
        """
        Window start -> what was asked of it, in the budget's unit: what it took, and what it refused beyond the most
        that it had taken at any time, with what was held.
        """
        scale = NANOS_PER_UNIT if budget.spec.unit is Unit.COST else 1
        asked = self.committed(budget)
        for one in self.refused.get(budget.budget_id, ()):
            most = max(asked.get(one.window_start, 0), int(one.committed * scale))
            asked[one.window_start] = most + int(one.amount * scale)
        return asked

    def what_was_refused(self, budget: Budget) -> str:
        """How many checks were denied in how many windows, and what they would have cost."""
        found = self.refused.get(budget.budget_id, ())
        checks, cost = sum(one.checks for one in found), sum((one.cost for one in found), Decimal(0))
        cells = f"{len(found):,} window{'' if len(found) == 1 else 's'}"
        return f"{checks:,} check{'' if checks == 1 else 's'} in {cells}, of at most {cost.normalize():f} USD"


def raises(pressure: Pressure) -> Iterator[Suggestion]:
    """Limits that refused calls, raised to what was asked for; for an allocation, see `reallocations`."""
    for budget in pressure.budgets:
        if not pressure.refuses(budget) or budget.spec.parent_id is not None:
            continue
        asked = rounded_up(max(pressure.asked(budget).values()))
        if asked > budget.spec.limit:
            yield _changed(
                budget,
                asked,
                kind=Kind.RAISE_LIMIT,
                detail=(
                    f"It refused {pressure.what_was_refused(budget)}. The saving is below zero: it is what the calls"
                    " that would have been admitted cost."
                ),
                assumption=(
                    "What was refused would have been used as it was asked for, at its estimate; a call that was asked"
                    " for again after a denial is counted each time."
                ),
            )


def lowerings(pressure: Pressure) -> Iterator[Suggestion]:
    """Limits of which less than half was ever taken, lowered to a quarter above that."""
    for budget in pressure.budgets:
        spec, committed = budget.spec, pressure.committed(budget)
        in_use = spec.parent_id is None and not spec.shadow and spec.period is not Period.TOTAL
        if not in_use or len(committed) < LEAST_WINDOWS or pressure.parts_of(budget) or pressure.refuses(budget):
            continue
        peak = max(committed.values())
        enough = rounded_up(max(1, -(-peak * _ROOM_PERCENT // 100)))
        if peak * _NEEDED < spec.limit and enough < spec.limit:
            yield _changed(
                budget,
                enough,
                kind=Kind.LOWER_LIMIT,
                detail=(
                    f"In {len(committed)} windows it took at most {_amount(budget, peak)}. Lowered, it saves nothing of"
                    f" what was spent, but {_amount(budget, spec.limit - enough)} {_PERIOD_WORDS[spec.period]} less can"
                    " go wrong."
                ),
                assumption=f"No window needs more than {_ROOM_PERCENT} % of what the fullest one took.",
            )


def reallocations(pressure: Pressure) -> Iterator[Suggestion]:
    """Budgets of which an allocation refused calls, cut so that most of what was asked for is admitted."""
    for parent in pressure.budgets:
        parts = pressure.parts_of(parent)
        if any(map(pressure.refuses, parts)):
            yield from _recut(pressure, parent, parts)


def _recut(pressure: Pressure, parent: Budget, parts: Sequence[Budget]) -> Iterator[Suggestion]:
    scale = NANOS_PER_UNIT if parent.spec.unit is Unit.COST else 1
    used = {part.budget_id: pressure.committed(part) for part in parts}
    demand = {part.budget_id: pressure.asked(part) for part in parts}
    starts = sorted({start for windows in demand.values() for start in windows})
    starts = starts[-max(1, _MOST_CELLS // len(parts)) :]
    whole = pressure.committed(parent)
    limits = [parent.limit_at(start) / scale for start in starts]
    others = [
        max(0, whole.get(start, 0) - sum(windows.get(start, 0) for windows in used.values())) / scale
        for start in starts
    ]
    asked = [_part(part, [demand[part.budget_id].get(start, 0) / scale for start in starts]) for part in parts]
    cut = best_cut(asked, limits, others, most=max(Decimal(100), sum((part.percent for part in asked), Decimal(0))))
    changes = [pair for pair in zip(parts, cut.percents, strict=True) if pair[0].spec.percent != pair[1]]
    if changes and cut.admitted - cut.admitted_now > _LEAST_GAIN * sum(limits):
        yield _reallocation(pressure, parent, parts, changes, cut, windows=len(starts))


def _part(part: Budget, demand: Sequence[float]) -> Part:
    percent = part.spec.percent or Decimal(0)
    # Half of what it has stays: what nobody asked for last month may be needed in the next.
    return Part(part.spec.name, percent, demand, floor=round(percent / 2, 4))


def _reallocation(
    pressure: Pressure,
    parent: Budget,
    parts: Sequence[Budget],
    changes: Sequence[Change],
    cut: Cut,
    *,
    windows: int,
) -> Suggestion:
    unit = _unit(parent)
    moves = ", ".join(
        f"{part.spec.name} {percent_text(part.spec.percent)} -> {percent_text(percent)} %" for part, percent in changes
    )
    return Suggestion(
        kind=Kind.REALLOCATION,
        title=f"Cut {parent.spec.name!r} anew: {moves}",
        detail=" ".join(
            [
                *(_worth(parent, part, price) for part, price in zip(parts, cut.shadow_prices, strict=True)),
                *(
                    f"{part.spec.name} refused {pressure.what_was_refused(part)}."
                    for part in parts
                    if pressure.refuses(part)
                ),
                f"In {windows} windows the new cut admits {cut.admitted - cut.admitted_now:.2f} {unit} more. The saving"
                " is below zero where that is spent.",
            ]
        ),
        assumption=(
            "Windows to come ask for what past ones did: what was used, and what was refused at its estimate, a call"
            " that was asked for again each time. No allocation loses more than half of its percentage."
        ),
        scope=parent.spec.scope,
        proposal=Proposal(limits={part.budget_id: replace(part.spec, percent=percent) for part, percent in changes}),
        apply=_recut_command(pressure.budgets, parent, changes),
    )


def _worth(parent: Budget, part: Budget, price: float) -> str:
    unit, period = _unit(parent), _PERIOD_WORDS[parent.spec.period]
    more = f"One more {unit.removesuffix('s')} {period} for {part.spec.name}"
    if price < 0.005:
        return f"{more} is worth nothing: it was refused nothing for want of it."
    return f"{more} is worth {price:.2f} {unit} {period} of calls that are refused today."


def _recut_command(budgets: Iterable[Budget], parent: Budget, changes: Sequence[Change]) -> Apply:
    names = [budget.spec.name for budget in budgets]

    def called(budget: Budget) -> str:
        plain = names.count(budget.spec.name) == 1 and not budget.spec.name.startswith("-")
        return budget.spec.name if plain and "=" not in budget.spec.name else str(budget.budget_id)

    said = [f"{called(part)}={percent_text(percent)}" for part, percent in changes]
    body = {"percents": {str(part.budget_id): percent_text(percent) for part, percent in changes}}
    line = command("limits", "reallocate", called(parent), *said)
    return Apply(line, "POST", f"/api/limits/{parent.budget_id}/reallocate", body)


def _changed(budget: Budget, limit: int, *, kind: Kind, detail: str, assumption: str) -> Suggestion:
    spec, to = budget.spec, budget.write(limit)
    verb = "Raise" if kind is Kind.RAISE_LIMIT else "Lower"
    words = ["set-limit", spec.period.value, to, "--unit", spec.unit.value, *scope_words(spec.scope.to_json())]
    return Suggestion(
        kind=kind,
        title=f"{verb} {spec.name!r} from {budget.write(spec.limit)} to {_amount(budget, limit)}",
        detail=detail,
        assumption=assumption,
        scope=spec.scope,
        proposal=Proposal(limits={budget.budget_id: replace(spec, limit=limit)}),
        apply=Apply(command(*words), "PATCH", f"/api/limits/{budget.budget_id}", {"limit": to}),
    )


def rounded_up(amount: int) -> int:
    """*amount* or a little more, with two digits that are not zero."""
    step = int("1".ljust(max(1, len(str(amount)) - 1), "0"))
    return -(-amount // step) * step


def _amount(budget: Budget, amount: int) -> str:
    return f"{budget.write(amount)} {_unit(budget)}"


def _unit(budget: Budget) -> str:
    return budget.spec.currency or budget.spec.unit.value
