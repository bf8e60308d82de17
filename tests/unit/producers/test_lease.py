"""What a lease's lessee may admit, whatever happens in whatever order."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from budget_bus.money import round_picos
from budget_bus.producers.lease import Amounts, Lease, Rates, Size, Slice, Ticket, nothing

RATES = Rates(input=2_500_000, output=10_000_000, request=700)
UNIT = Size(1000, 200)
BOUND = 4_500_001  # nanos of a call of that size: 1000 * 2,500 + 200 * 10,000, and the request's fee rounded up


def a_slice(calls: int, *, cost: int | None = None, tokens: int | None = None, rates: Rates | None = RATES) -> Slice:
    """A lease for *calls* calls of the unit's size, until the instant 100."""
    granted = Amounts(BOUND * calls if cost is None else cost, 1200 * calls if tokens is None else tokens, calls)
    return Slice(UUID(int=1), granted, rates, unit=UNIT, until=100.0)


def admitted(of: Slice, input_tokens: int = 1000, output_tokens: int = 200, now: float = 0.0) -> Ticket:
    ticket = of.admit(input_tokens, output_tokens, now)
    assert ticket is not None
    return ticket


_TOKENS = st.integers(0, 3000)
_SIDES = st.tuples(_TOKENS, _TOKENS)
_PARTS = st.tuples(st.integers(0, 1000), st.integers(0, 1000))  # per mille of each side of a bound


class AnyOrder(RuleBasedStateMachine):
    """
    Beside the slices runs what is true: what each call may yet use, and what it did use. Their sum and what was given
    back must stay within the grant. The rates of the lease are dearer than the true ones, as the dearest tier may be.
    """

    tickets: Bundle[tuple[Ticket, Slice, tuple[int, int]]] = Bundle("tickets")
    loose: Bundle[tuple[Slice, tuple[int, int]]] = Bundle("loose")

    @initialize(unit=_SIDES, rates=st.tuples(st.integers(0, 9_999_999), st.integers(0, 9_999_999), _TOKENS))
    def begin(self, unit: tuple[int, int], rates: tuple[int, int, int]) -> None:
        self.unit, self.rates = unit, rates
        self.charged: list[tuple[Slice, list[tuple[int, int]]]] = []
        self.events = 0
        self.renew(calls=3, dearer=1)

    @rule(calls=st.integers(1, 8), dearer=st.integers(1, 3))
    def renew(self, calls: int, dearer: int) -> None:
        if self.charged:
            self.of.give_back()
        granted = Amounts(self.true_cost(self.unit) * calls, sum(self.unit) * calls, calls)
        lease_rates = Rates(*(rate * dearer for rate in self.rates))
        self.of = Slice(UUID(int=1), granted, lease_rates, unit=Size(*self.unit), until=100.0)
        self.charged.append((self.of, []))

    @rule(target=tickets, sides=_SIDES, bare=st.booleans())
    def admit(self, sides: tuple[int, int], bare: bool) -> Any:
        ticket = self.of.admit_bare(sum(sides), 0.0) if bare else self.of.admit(*sides, 0.0)
        if ticket is None:
            return multiple()
        self.charged[-1][1].append(sides)
        return ticket, self.of, sides

    @rule(calls=st.integers(1, 8))
    def renew_for_a_call(self, calls: int) -> None:
        self.renew(calls, 2)
        self.of.loosen(self.of.admit_share())
        self.charged[-1][1].append(self.unit)

    @rule(taken=consumes(tickets), used=_PARTS)
    def settle(self, taken: tuple[Ticket, Slice, tuple[int, int]], used: tuple[int, int]) -> None:
        ticket, of, sides = taken
        of.settle(ticket, *self.exchanged(of, sides, used))

    @rule(taken=consumes(tickets))
    def void(self, taken: tuple[Ticket, Slice, tuple[int, int]]) -> None:
        ticket, of, sides = taken
        self.of_slice(of).remove(sides)
        of.void(ticket)

    @rule(target=loose, taken=consumes(tickets))
    def loosen(self, taken: tuple[Ticket, Slice, tuple[int, int]]) -> Any:
        ticket, of, sides = taken
        of.loosen(ticket)
        return of, sides

    @rule(let_go=consumes(loose), used=_PARTS)
    def settle_loose(self, let_go: tuple[Slice, tuple[int, int]], used: tuple[int, int]) -> None:
        of, sides = let_go
        self.events += 1
        assert of.settle_loose(UUID(int=self.events), *self.exchanged(of, sides, used))

    @rule(let_go=consumes(loose))
    def void_loose(self, let_go: tuple[Slice, tuple[int, int]]) -> None:
        of, sides = let_go
        self.of_slice(of).remove(sides)
        assert of.void_loose()

    @rule()
    def give_back(self) -> None:
        self.of.give_back()

    @invariant()
    def never_more_than_the_grant(self) -> None:
        for of, calls in getattr(self, "charged", ()):
            total = Amounts(sum(map(self.true_cost, calls)), sum(map(sum, calls)), len(calls))
            assert all(t + back <= most for t, back, most in zip(total, of.given_back, of.granted, strict=True))

    def exchanged(self, of: Slice, sides: tuple[int, int], used: tuple[int, int]) -> tuple[int, int]:
        actual = (sides[0] * used[0] // 1000, sides[1] * used[1] // 1000)
        self.of_slice(of).remove(sides)
        self.of_slice(of).append(actual)
        return actual

    def of_slice(self, of: Slice) -> list[tuple[int, int]]:
        return next(calls for one, calls in self.charged if one is of)

    def true_cost(self, sides: tuple[int, int]) -> int:
        return -(-(sides[0] * self.rates[0] + sides[1] * self.rates[1] + self.rates[2]) // 1000)


class TestAnyOrder(AnyOrder.TestCase):  # type: ignore[name-defined, misc]
    """No order of admitting, settling, voiding and renewing admits more than the slices."""

    settings = settings(deadline=None, max_examples=200, stateful_step_count=40)


def test_a_lease_admits_what_was_granted_and_no_call_more() -> None:
    of = a_slice(3)
    assert [of.admit(1000, 200, 0.0) is not None for _ in range(4)] == [True, True, True, False]
    assert (of.cost, of.tokens, of.calls, of.outstanding) == (0, 0, 0, 3)


@pytest.mark.parametrize(
    ("of", "call"),
    [
        pytest.param(a_slice(1, tokens=10**9), (1000, 201), id="the money is not enough"),
        pytest.param(a_slice(1, tokens=1199), (1000, 200), id="the tokens are not enough"),
        pytest.param(a_slice(0, cost=10**12, tokens=10**9), (1000, 200), id="no call is left"),
        pytest.param(nothing(), (0, 0), id="nothing was ever granted"),
    ],
)
def test_what_does_not_fit_is_not_admitted(of: Slice, call: tuple[int, int]) -> None:
    before = (of.cost, of.tokens, of.calls)
    assert of.admit(*call, 0.0) is None
    assert (of.cost, of.tokens, of.calls, of.outstanding) == (*before, 0)


def test_nothing_is_admitted_from_the_end_on() -> None:
    of = a_slice(2)
    assert of.admit(1, 1, 99.9) is not None
    assert of.admit(1, 1, 100.0) is None


def test_an_unpriced_lease_counts_tokens_and_calls() -> None:
    of = a_slice(2, cost=0, rates=None)
    assert [of.admit(1000, 200, 0.0) is not None for _ in range(3)] == [True, True, False]


def test_a_call_of_the_granted_size_costs_what_the_decider_said_though_the_rates_are_dearer() -> None:
    dear = Rates(RATES.input * 2, RATES.output * 2, RATES.request)
    of = a_slice(3, rates=dear)
    assert (admitted(of).cost, admitted(of, 999, 200).cost) == (BOUND, BOUND)
    assert of.admit(1001, 0, 0.0) is None, "beyond that size only the rates are known"


def test_settling_exchanges_the_bound_for_what_was_used() -> None:
    of = a_slice(1)
    ticket = admitted(of)
    of.settle(ticket, 400, 50)
    used = round_picos(400 * RATES.input + 50 * RATES.output + RATES.request)
    assert (of.cost, of.tokens, of.calls, of.outstanding) == (BOUND - used, 750, 0, 0)
    assert of.give_back() == (BOUND - used, 750, 0)


def test_a_call_that_used_more_than_its_bound_takes_it_from_the_others() -> None:
    of = a_slice(2)
    of.settle(admitted(of), 1000, 400)
    assert of.admit(1000, 200, 0.0) is None
    assert of.tokens == 1000


def test_usage_of_unknown_size_keeps_its_bound() -> None:
    of = a_slice(1)
    of.settle(admitted(of), None, 10)
    assert (of.cost, of.tokens, of.outstanding) == (0, 0, 0)


@pytest.mark.parametrize("again", ["settle", "void", "loosen"])
def test_a_ticket_is_closed_once(again: str) -> None:
    of = a_slice(1)
    ticket = admitted(of)
    of.void(ticket)
    with pytest.raises(RuntimeError, match="already"):
        of.settle(ticket, 1, 1) if again == "settle" else getattr(of, again)(ticket)
    assert (of.cost, of.tokens, of.calls, of.outstanding) == (*of.granted, 0)


def test_of_calls_that_are_known_by_the_lease_alone_the_smallest_is_closed_first() -> None:
    of = a_slice(4)
    for size in ((1000, 200), (10, 1)):
        of.loosen(admitted(of, *size))
    tokens = of.tokens
    assert of.settle_loose(UUID(int=5), 5, 1)
    assert of.tokens == tokens + 11 - 6
    assert not of.settle_loose(UUID(int=5), 5, 1), "the same event again closes no other call"
    assert (of.void_loose(), of.void_loose()) == (True, False)


def test_what_was_given_back_is_summed_up_and_admitted_no_more() -> None:
    of = a_slice(3)
    ticket = admitted(of)
    assert of.give_back() == (2 * BOUND, 2400, 2)
    assert of.admit(1, 1, 0.0) is None
    of.void(ticket)
    assert of.admit(1, 1, 0.0) is None, "nor is what comes free of it later"
    assert of.give_back() == of.give_back() == of.granted


def test_a_negative_count_makes_no_room() -> None:
    of = a_slice(1)
    with pytest.raises(ValueError, match="not below zero"):
        of.admit(-1, 0, 0.0)
    with pytest.raises(ValueError, match="not below zero"):
        of.admit(0, -(10**6), 0.0)


@pytest.mark.parametrize("wrong", [{"calls": 0}, {"calls": 1_000_001}, {"ttl_s": 0}, {"drain_s": 90_000}])
def test_a_lease_of_impossible_size_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Lease(**wrong)
