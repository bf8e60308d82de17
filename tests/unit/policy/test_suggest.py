"""What is suggested instead of a call that does not fit: never more than fits, and nothing better is missed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.money import Nanos
from budget_bus.policy.suggest import Candidate, cheaper, largest_output


def of(model: str, cost: int, *, provider: str = "openai", equivalent: bool = False) -> Candidate:
    return Candidate(provider, model, Nanos(cost), equivalent)


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.sampled_from(["openai", "anthropic"]),
        st.sampled_from(["a", "b", "c", "d", "e"]),
        st.integers(0, 12).map(Nanos),
        st.booleans(),
    ),
    max_size=12,
)


@given(room=st.integers(-5, 200), most=st.integers(-5, 200), price=st.integers(0, 7), fee=st.integers(0, 9))
def test_the_largest_output_is_what_trying_each_would_find(room: int, most: int, price: int, fee: int) -> None:
    def fits(tokens: int) -> bool:
        return fee + price * tokens <= room

    tried = [tokens for tokens in range(1, most + 1) if fits(tokens)]
    assert largest_output(fits, most) == (tried[-1] if tried else None)


@given(most=st.integers(1, 10_000_000), limit=st.integers(0, 10_000_000))
def test_the_largest_output_is_found_in_few_steps_that_stay_in_range(most: int, limit: int) -> None:
    asked: list[int] = []

    def fits(tokens: int) -> bool:
        asked.append(tokens)
        return tokens <= limit

    largest_output(fits, most)
    assert len(asked) <= most.bit_length() + 1
    assert all(1 <= tokens <= most for tokens in asked)


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        pytest.param([], [], id="nothing to suggest"),
        pytest.param([of("low", 2), of("high", 9)], ["high", "low"], id="the dearest first"),
        pytest.param([of("same", 10), of("dearer", 11)], [], id="what costs as much is not cheaper"),
        pytest.param([of("free", 0)], ["free"], id="a free one is cheaper"),
        pytest.param(
            [of("other", 9, provider="groq", equivalent=True), of("own", 1)],
            ["own", "other"],
            id="the asked provider before an equivalent, though that is closer in price",
        ),
        pytest.param([of("b", 5), of("a", 5)], ["a", "b"], id="one price, in the order of names"),
        pytest.param([of("a", 9), of("b", 8), of("c", 7), of("d", 6)], ["a", "b", "c"], id="three at most"),
        pytest.param(
            [of("a", 9), of("b", 8), of("c", 7), of("d", 6), of("x", 1, provider="groq", equivalent=True)],
            ["a", "b", "c", "x"],
            id="many of the provider do not crowd out an equivalent",
        ),
        pytest.param([of("a", 5, equivalent=True), of("a", 5)], ["a"], id="a model that is named twice, once"),
        pytest.param([of("unfit", 9), of("a", 1)], ["a"], id="one that does not fit"),
    ],
)
def test_cheaper_models(candidates: list[Candidate], expected: list[str]) -> None:
    found = cheaper(candidates, than=Nanos(10), fits=lambda c: c.model != "unfit")
    assert [candidate.model for candidate in found] == expected


@given(candidates=CANDIDATES, than=st.integers(0, 12), most=st.integers(0, 5), unfit=st.sets(st.sampled_from("abcde")))
def test_nothing_better_is_left_out(candidates: list[Candidate], than: int, most: int, unfit: set[str]) -> None:
    found = cheaper(candidates, than=Nanos(than), fits=lambda c: c.model not in unfit, most=most)
    good = {c for c in candidates if c.cost < than and c.model not in unfit}
    assert set(found) <= good
    named = {(c.provider, c.model) for c in found}
    assert len(named) == len(found)
    ranks = [(c.equivalent, -c.cost) for c in found]
    assert ranks == sorted(ranks)
    for equivalent in (False, True):
        mine = [c for c in found if c.equivalent is equivalent]
        missed = [c for c in good if c.equivalent is equivalent and (c.provider, c.model) not in named]
        assert len(mine) <= most
        assert not missed or len(mine) == most
        assert all(c.cost <= mine[-1].cost for c in missed if mine)
