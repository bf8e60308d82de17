"""What would fit instead of a call that does not: a smaller answer, or a cheaper model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from budget_bus.money import Nanos


class Candidate(NamedTuple):
    """
    A model that could be called instead, and the most that the call could cost there.

    `equivalent` says that the operator named it as a stand-in; the others are of the provider that was asked for.
    """

    provider: str
    model: str
    cost: Nanos
    equivalent: bool


def largest_output(fits: Callable[[int], bool], most: int) -> int | None:
    """
    The largest number of output tokens from 1 to *most* that `fits`, or None when not even 1 does.

    More output never costs less, so a number that fits is above every one that does not: *fits* is asked about
    log2(*most*) times.
    """
    if most < 1 or not fits(1):
        return None
    # `low` is known to fit, `high` is known not to, or was never allowed.
    low, high = 1, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def cheaper(
    candidates: Iterable[Candidate],
    *,
    than: Nanos,
    fits: Callable[[Candidate], bool] = lambda _: True,
    most: int = 3,
) -> list[Candidate]:
    """
    Candidates that fit and cost strictly less *than* the call that was asked for, best first: at most *most* of the
    asked provider, and as many of the operator's equivalents.

    Models of the asked provider come before the operator's equivalents, since nothing but a name has to change for
    them. Within each the dearest comes first: of what fits it is likely the closest in what it can do. A model that is
    named twice counts where it comes first. *fits* is asked only until enough are found.
    """
    found: dict[tuple[str, str], Candidate] = {}
    below = (candidate for candidate in candidates if candidate.cost < than)
    for candidate in sorted(below, key=lambda c: (c.equivalent, -c.cost, c.provider, c.model)):
        key = (candidate.provider, candidate.model)
        enough = sum(other.equivalent == candidate.equivalent for other in found.values()) >= most
        if not enough and key not in found and fits(candidate):
            found[key] = candidate
    return list(found.values())
