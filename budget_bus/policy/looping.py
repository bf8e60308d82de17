"""Is a run going in circles: one context calls one model again and again, each time with more input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

MIN_CALLS = 20
UNKNOWN_PACE = 3 * MIN_CALLS  # calls that are needed where no usual pace is known
_TIMES_USUAL = 2
_GROWTH_PERCENT = 110  # the last input beside the first


class Turn(NamedTuple):
    """One call of a context."""

    at: datetime
    provider: str
    model: str
    input_tokens: int
    cost_nanos: int


class Run(NamedTuple):
    """Calls in a row of one model whose input never shrinks."""

    turns: Sequence[Turn]

    @property
    def cost_nanos(self) -> int:
        return sum(turn.cost_nanos for turn in self.turns)

    @property
    def grows(self) -> bool:
        return 100 * self.turns[-1].input_tokens >= _GROWTH_PERCENT * max(1, self.turns[0].input_tokens)


def latest_run(turns: Iterable[Turn]) -> Run | None:
    """The run that the last of *turns*, in their order, belongs to; None if there are none."""
    run: list[Turn] = []
    for turn in turns:
        last = run[-1] if run else None
        if last and (
            (turn.provider, turn.model) != (last.provider, last.model) or turn.input_tokens < last.input_tokens
        ):
            run = []
        run.append(turn)
    return Run(run) if run else None


def calls_needed(usual_calls: int | None) -> int:
    """
    How many calls of a run make a loop, where *usual_calls* of a context within 15 minutes are usual; None: not known.
    """
    return UNKNOWN_PACE if usual_calls is None else max(MIN_CALLS, _TIMES_USUAL * usual_calls + 1)


def is_loop(run: Run, *, usual_calls: int | None, floor: int) -> bool:
    """Whether *run*, of the last 15 minutes, is a loop that costs at least *floor* nanos."""
    return len(run.turns) >= calls_needed(usual_calls) and run.grows and run.cost_nanos >= floor
