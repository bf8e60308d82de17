"""Loops: one model, calls in a row, input that never shrinks and grows, more than is usual, and for money."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from budget_bus.policy.looping import MIN_CALLS, UNKNOWN_PACE, Turn, calls_needed, is_loop, latest_run

START = datetime(2026, 11, 30, 12, tzinfo=UTC)


def turns(inputs: Sequence[int], model: str = "gpt-4o", cost: int = 10) -> list[Turn]:
    return [Turn(START + timedelta(seconds=n), "openai", model, tokens, cost) for n, tokens in enumerate(inputs)]


GROWING = [1000 + 100 * n for n in range(MIN_CALLS)]


@pytest.mark.parametrize(
    ("made", "usual", "floor", "expected"),
    [
        pytest.param(turns(GROWING), 3, 0, True, id="growing, and more than usual"),
        pytest.param(turns(GROWING[:-1]), 3, 0, False, id="one call too few"),
        pytest.param(turns(GROWING), None, 0, False, id="no pace is known: three times as many are needed"),
        pytest.param(turns([1000 + n * 100 for n in range(UNKNOWN_PACE)]), None, 0, True, id="three times as many"),
        pytest.param(turns(GROWING), 10, 0, False, id="twenty is but twice what is usual"),
        pytest.param(turns([*GROWING, 9000]), 10, 0, True, id="more than twice what is usual"),
        pytest.param(turns([1000] * 50), 3, 0, False, id="the same again and again does not grow"),
        pytest.param(turns([1000] * 30 + [1100] * 30), 3, 0, True, id="now and then it may stay the same"),
        pytest.param(turns([*GROWING[:10], 500, *GROWING[10:]]), 3, 0, False, id="it began anew in between"),
        pytest.param(turns(GROWING[:10]) + turns(GROWING[10:], "gpt-4"), 3, 0, False, id="another model"),
        pytest.param(turns(GROWING), 3, 201, False, id="for too little money"),
        pytest.param(turns(GROWING), 3, 200, True, id="for just enough money"),
        pytest.param(turns([0] * 20), 3, 0, False, id="nothing but nothing"),
    ],
)
def test_what_is_a_loop(made: list[Turn], usual: int | None, floor: int, expected: bool) -> None:
    run = latest_run(made)
    assert run is not None
    assert is_loop(run, usual_calls=usual, floor=floor) is expected


def test_the_latest_run_is_what_counts() -> None:
    run = latest_run([*turns(GROWING), *turns([10, 20])])
    assert run is not None
    assert [turn.input_tokens for turn in run.turns] == [10, 20]
    assert latest_run([]) is None


def test_never_are_fewer_calls_needed_than_the_least() -> None:
    assert [calls_needed(usual) for usual in (0, 1, 9, 10, 100)] == [MIN_CALLS, MIN_CALLS, MIN_CALLS, 21, 201]
