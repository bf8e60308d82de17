"""What a window hands on: never more than it had, never more than the cap, never twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.policy.budget import Balance, Budget, LimitSpec, Raise, Unit
from budget_bus.policy.rollover import carried, hands_on
from budget_bus.policy.scope import Scope
from budget_bus.policy.windows import Period, Window

DAY = timedelta(days=1)
START = datetime(2026, 3, 10, tzinfo=UTC)
BEFORE = Window(START, START + DAY)


def budget(limit: int = 10, cap: int = 100, raises: tuple[Raise, ...] = ()) -> Budget:
    spec = LimitSpec("b", Scope(), Period.DAILY, Unit.TOKENS, limit, None, rollover_cap=cap)
    return Budget(UUID(int=1), spec, 1, raises=raises, rollover_since=START)


def later(days: int) -> Window:
    return Window(START + days * DAY, START + (days + 1) * DAY)


@pytest.mark.parametrize(
    ("handing", "balance", "days", "expected"),
    [
        pytest.param(budget(), Balance(spent=3), 1, (7, 7), id="what was not spent"),
        pytest.param(budget(), Balance(3, 2, 1), 1, (4, 4), id="held and unconfirmed count as used"),
        pytest.param(budget(), Balance(spent=12), 1, (0, 0), id="an overspent window hands on nothing, and no debt"),
        pytest.param(budget(cap=5), Balance(spent=3), 1, (5, 5), id="no more than the cap"),
        pytest.param(budget(), Balance(spent=3, carried_in=4), 1, (11, 11), id="what was carried in goes on"),
        pytest.param(budget(), Balance(spent=3), 3, (7, 27), id="each idle window adds its limit"),
        pytest.param(budget(cap=20), Balance(spent=3), 9, (7, 20), id="idle windows stop at the cap"),
        pytest.param(budget(limit=0), Balance(), 9, (0, 0), id="a limit of 0 leaves nothing, however long"),
        pytest.param(budget(), Balance(spent=3, carried_out=7), 2, (0, 0), id="handed on once is gone"),
        pytest.param(budget(cap=0), Balance(), 1, (0, 0), id="a cap of 0"),
        pytest.param(
            budget(raises=(Raise(UUID(int=2), 5, START, START + DAY),)), Balance(spent=3), 1, (12, 12),
            id="a raise that ran to the window's end is left over too",
        ),
        pytest.param(
            budget(raises=(Raise(UUID(int=2), 5, START, START + DAY / 2),)), Balance(spent=3), 1, (7, 7),
            id="a raise that had ended is not",
        ),
    ],
)  # fmt: skip
def test_what_is_carried(handing: Budget, balance: Balance, days: int, expected: tuple[int, int]) -> None:
    assert carried(handing, BEFORE, balance, later(days)) == expected


@given(st.integers(0, 50), st.integers(0, 80), st.lists(st.integers(0, 60), min_size=1, max_size=12))
def test_all_windows_together_never_take_more_than_their_limits(limit: int, cap: int, wanted: list[int]) -> None:
    """Each day takes what it wants of what it has; what it leaves, at most the cap, is there on the next."""
    handing, balance, taken = budget(limit, cap), Balance(), 0
    for day, want in enumerate(wanted):
        window = later(day)
        if day:
            out, into = carried(handing, later(day - 1), balance, window)
            assert out == into <= cap
            balance = Balance(carried_in=into)
        has = handing.limit_in(window, balance, window.start)
        balance = balance.moved(spent=min(want, has))
        taken += balance.spent
        assert taken <= limit * (day + 1)


@pytest.mark.parametrize(
    ("since", "before", "at", "expected"),
    [
        pytest.param(START, BEFORE, START + DAY, True, id="made with the window"),
        pytest.param(START + DAY / 2, BEFORE, START + DAY, True, id="made while it ran"),
        pytest.param(START + DAY, BEFORE, START + DAY, False, id="made when it was over"),
        pytest.param(None, BEFORE, START + DAY, False, id="it hands on nothing"),
        pytest.param(START, BEFORE, START + DAY / 2, False, id="it still runs"),
        pytest.param(START, Window(START, None), START + DAY, False, id="it never ends"),
    ],
)
def test_which_windows_hand_on(since: datetime | None, before: Window, at: datetime, *, expected: bool) -> None:
    spec = LimitSpec("b", Scope(), Period.DAILY, Unit.TOKENS, 1, None)
    assert hands_on(Budget(UUID(int=1), spec, 1, rollover_since=since), before, at) is expected
