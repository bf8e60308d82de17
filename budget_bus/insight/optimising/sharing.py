"""
How allocations of one budget would best be cut: a linear program over what was asked for, and its shadow prices.

Numbers in here are floats of the budget's unit, and estimates; what comes out is percentages that allocations can have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any

_FINEST = Decimal("0.0001")  # what an allocation's percentage can say
_HUNDRED = Decimal(100)
# Worth a millionth of what is admitted: of equally good cuts the one that changes least is taken.
_RELUCTANCE = 1e-6
_JUST_MET = 1e-6  # of a limit: closer than this, demand counts as met, so that one more dollar finds no use


@dataclass(frozen=True, slots=True)
class Part:
    """
    One allocation: its percentage now, the least it must keep, and what was asked of it in each window, used and
    refused together.
    """

    name: str
    percent: Decimal
    demand: Sequence[float]
    floor: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Cut:
    """
    The best percentages, in the order of the parts; what is admitted with them and with the present ones, in all
    windows together; and for each part what one more unit per window admits, now: 0.83 is 83 cents of a dollar.
    """

    percents: tuple[Decimal, ...]
    admitted: float
    admitted_now: float
    shadow_prices: tuple[float, ...]


def shadow_prices(parts: Sequence[Part], limits: Sequence[float]) -> tuple[float, ...]:
    """
    What one more unit per window would admit, for each part as it is cut now: between 0 and 1.

    It is the dual value of that part's share in the program that admits as much as possible.
    """
    return _now(parts, limits)[1]


def best_cut(parts: Sequence[Part], limits: Sequence[float], others: Sequence[float], *, most: Decimal) -> Cut:
    """
    The percentages with which most of what was asked for is admitted.

    *limits* is the parent's limit in each window, *others* what was used there of the parent by no part. Together the
    parts get at most *most* percent.
    """
    np, matrix, linprog = _solver()
    n, cells = len(parts), len(parts) * len(limits)
    # Variables: what is admitted per part and window, then each part's share, then how far it moved up, and down.
    at_most, most_of = _constraints(parts, limits, others, matrix, np)
    most_of[-1] = float(most / _HUNDRED)
    moved = matrix((n, cells + 3 * n))
    for i in range(n):
        moved[i, cells + i], moved[i, cells + n + i], moved[i, cells + 2 * n + i] = 1, -1, 1
    reluctance = np.full(2 * n, _RELUCTANCE * max(1.0, sum(limits)))
    bounds: list[tuple[float, float | None]] = [(0, demand) for part in parts for demand in part.demand]
    bounds += [(float(part.floor / _HUNDRED), 1) for part in parts]
    found = linprog(
        np.concatenate([-np.ones(cells), np.zeros(n), reluctance]),
        A_ub=at_most.tocsr(),
        b_ub=most_of,
        A_eq=moved.tocsr(),
        b_eq=[float(part.percent / _HUNDRED) for part in parts],
        bounds=[*bounds, *[(0, None)] * (2 * n)],
        method="highs",
    )
    assert found.success, found.message  # noqa: S101  # the present cut is always one that is allowed
    percents = _rounded(parts, [float(found.x[cells + i]) for i in range(n)], most)
    now, duals = _now(parts, limits)
    return Cut(percents, float(found.x[:cells].sum()), now, duals)


def _constraints(
    parts: Sequence[Part], limits: Sequence[float], others: Sequence[float], matrix: Any, np: Any
) -> tuple[Any, Any]:
    """
    In this order: a part admits at most its share of a window's limit, all of them what others leave of it, and all
    shares are at most what the last line will say.
    """
    n, windows = len(parts), len(limits)
    left, right = matrix((n * windows + windows + 1, n * windows + 3 * n)), np.zeros(n * windows + windows + 1)
    for i in range(n):
        left[n * windows + windows, n * windows + i] = 1
        for w in range(windows):
            left[i * windows + w, i * windows + w], left[i * windows + w, n * windows + i] = 1, -limits[w]
            left[n * windows + w, i * windows + w] = 1
    for w in range(windows):
        # What is admitted now fits by definition, also where a limit has been lowered since.
        right[n * windows + w] = max(limits[w] - others[w], sum(_used(part, limits[w], w) for part in parts))
    return left, right


def _now(parts: Sequence[Part], limits: Sequence[float]) -> tuple[float, tuple[float, ...]]:
    """What is admitted as it is cut now, and the dual value of each part's share, per window."""
    np, matrix, linprog = _solver()
    n, windows = len(parts), len(limits)
    # Variables: what is admitted per part and window, then what each part gets on top in every window: at most nothing.
    a_ub, b_ub = matrix((n * windows + n, n * windows + n)), np.zeros(n * windows + n)
    bounds = []
    for i, part in enumerate(parts):
        for w, limit in enumerate(limits):
            row, cap = i * windows + w, limit * float(part.percent / _HUNDRED)
            a_ub[row, row], a_ub[row, n * windows + i], b_ub[row] = 1, -1, cap
            demand = part.demand[w]
            # What is just met binds with two constraints at once, and the solver might give either the dual value.
            bounds.append((0, demand if demand > cap * (1 + _JUST_MET) else min(demand, cap * (1 - _JUST_MET))))
        a_ub[n * windows + i, n * windows + i] = 1
    costs = np.concatenate([-np.ones(n * windows), np.zeros(n)])
    found = linprog(costs, A_ub=a_ub.tocsr(), b_ub=b_ub, bounds=bounds + [(0, None)] * n, method="highs")
    assert found.success, found.message  # noqa: S101  # to admit nothing is always allowed
    duals = tuple(max(0.0, -float(d)) / windows for d in found.ineqlin.marginals[n * windows :])
    used = sum(_used(part, limit, w) for part in parts for w, limit in enumerate(limits))
    return used, duals


def _used(part: Part, limit: float, window: int) -> float:
    return min(part.demand[window], limit * float(part.percent / _HUNDRED))


def _rounded(parts: Sequence[Part], shares: Sequence[float], most: Decimal) -> tuple[Decimal, ...]:
    """Shares as percentages, rounded down; one that hardly moved stays as it is. Never more than *most* together."""
    percents = []
    for part, share in zip(parts, shares, strict=True):
        exact = round(Decimal(share) * _HUNDRED, 7)  # the solver's 0.19999999999 is a fifth
        percent = exact.quantize(_FINEST, ROUND_DOWN)
        near = abs(percent - part.percent) <= 2 * _FINEST
        percents.append(part.percent if near else max(part.floor, percent))
    surplus = sum(percents, Decimal(0)) - most
    if surplus > 0:  # by as little as the solver's tolerance, and what staying as it was added
        largest = max(range(len(parts)), key=lambda i: percents[i])
        percents[largest] -= surplus
    return tuple(percents)


def _solver() -> tuple[Any, Any, Any]:
    import numpy as np  # noqa: PLC0415 - a third of a second, for those who ask
    from scipy.optimize import linprog  # noqa: PLC0415
    from scipy.sparse import dok_array  # noqa: PLC0415

    return np, dok_array, linprog
