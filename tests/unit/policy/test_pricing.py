"""Pricing: one rounding, parts that add up, and bounds that hold."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_bus.money import PicosPerToken, round_picos
from budget_bus.policy.pricing import Cost, Price, PriceStatus, Rate, Tokens, Without, charges_of, cost_of, upper_bound

picos = st.integers(0, 10**9).map(PicosPerToken)


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    starts = draw(st.lists(st.integers(0, 2_000), max_size=3, unique=True))
    return Rate(draw(picos), tuple((start, draw(picos)) for start in sorted(starts)))


prices = st.builds(
    Price,
    input=rates(),
    output=rates(),
    cache_read=st.none() | rates(),
    cache_creation=st.none() | rates(),
    reasoning_output=st.none() | rates(),
    input_audio=st.none() | rates(),
    output_audio=st.none() | rates(),
    cache_creation_1h=st.none() | rates(),
    input_image=st.none() | rates(),
    output_image=st.none() | rates(),
    per_request_picos=st.integers(0, 10**12),
)


@st.composite
def token_counts(draw: st.DrawFn, plain: bool = False) -> Tokens:
    """
    Any counts that an accepted event may have: cached ones within the input, audio and images perhaps among them.

    *plain* ones have nothing that a check can exclude by saying 0.
    """
    given_input, output = draw(st.integers(0, 3_000)), draw(st.integers(0, 3_000))
    cache_read = draw(st.integers(0, given_input))
    cache_creation = draw(st.integers(0, given_input - cache_read))
    return Tokens(
        input=given_input,
        output=output,
        cache_read=cache_read,
        cache_creation=cache_creation,
        reasoning_output=draw(st.integers(0, output)),
        input_audio=0 if plain else draw(st.integers(0, given_input)),
        output_audio=draw(st.integers(0, output)),
        cache_creation_1h=0 if plain else draw(st.integers(0, cache_creation)),
        input_image=0 if plain else draw(st.integers(0, given_input)),
        output_image=draw(st.integers(0, output)),
    )


@given(token_counts(), prices)
def test_input_and_output_add_up_to_the_total(tokens: Tokens, price: Price) -> None:
    cost = cost_of(tokens, price)
    assert cost.input + cost.output == cost.total
    assert min(cost.input, cost.output) >= 0


@given(token_counts(), prices)
def test_the_charges_of_the_classes_add_up_to_the_cost(tokens: Tokens, price: Price) -> None:
    charges = charges_of(tokens, price)
    assert round_picos(sum(one.picos for side in charges for one in side)) == cost_of(tokens, price).total
    counted = [one.tokens for side in charges for one in side]
    assert sum(counted) == max(tokens.input, tokens.cache_read + tokens.cache_creation) + max(
        tokens.output, tokens.reasoning_output
    )


@given(token_counts(), prices, st.integers(0, 500), st.integers(0, 500))
def test_a_bound_holds_for_every_call_that_is_no_larger(
    tokens: Tokens, price: Price, more_in: int, more_out: int
) -> None:
    bound = upper_bound(
        price,
        input_tokens=tokens.input + more_in,
        output_tokens=tokens.output + more_out,
        total_tokens=tokens.total + more_in + more_out,
    )
    assert bound >= cost_of(tokens, price).total


@given(token_counts(), prices)
def test_a_bound_of_a_bare_total_holds_for_any_split(tokens: Tokens, price: Price) -> None:
    bound = upper_bound(price, input_tokens=None, output_tokens=None, total_tokens=tokens.total)
    assert bound >= cost_of(tokens, price).total


@given(token_counts(plain=True), prices)
def test_a_bound_without_some_classes_holds_for_calls_without_them(tokens: Tokens, price: Price) -> None:
    known = upper_bound(
        price,
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        total_tokens=tokens.total,
        without=Without(audio=True, image=True, cache_creation_1h=True),
    )
    assert known >= cost_of(tokens, price).total


@given(token_counts(), st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_sum_is_exact_and_rounded_once(tokens: Tokens, input_picos: int, output_picos: int) -> None:
    price = Price(input=Rate(PicosPerToken(input_picos)), output=Rate(PicosPerToken(output_picos)))
    exact = Fraction(tokens.input * input_picos + tokens.output * output_picos, 1000)
    assert cost_of(tokens, price).total == round(exact)


@settings(max_examples=30)
@given(st.lists(token_counts(), max_size=4), prices, st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_change_the_sum(events: list[Tokens], price: Price, random: object) -> None:
    shuffled = list(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sum(cost_of(e, price).total for e in events) == sum(cost_of(e, price).total for e in shuffled)


@settings(max_examples=50)
@given(token_counts(), rates(), rates())
def test_subsets_without_a_rate_of_their_own_change_nothing(tokens: Tokens, one: Rate, other: Rate) -> None:
    price = Price(input=one, output=other)
    assert cost_of(tokens, price) == cost_of(Tokens(tokens.input, tokens.output), price)


TIERED = Rate(PicosPerToken(1_250_000), ((128_000, PicosPerToken(2_500_000)), (256_000, PicosPerToken(5_000_000))))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param(0, 1_250_000, id="an empty context is in no tier"),
        pytest.param(128_000, 1_250_000, id="exactly the threshold is still the base"),
        pytest.param(128_001, 2_500_000, id="one token more is the tier"),
        pytest.param(256_001, 5_000_000, id="the highest tier reached holds"),
    ],
)
def test_a_tier_holds_above_its_threshold(size: int, expected: int) -> None:
    assert TIERED.at(size) == expected


def test_the_dearest_rate_need_not_be_the_highest_tier() -> None:
    rate = Rate(PicosPerToken(9), ((10, PicosPerToken(3)), (20, PicosPerToken(5))))
    assert [rate.dearest(size) for size in (0, 11, 21)] == [9, 9, 9]
    assert TIERED.dearest(128_000) == 1_250_000


def rate(value: int) -> Rate:
    return Rate(PicosPerToken(value))


CLASSES = Price(
    input=rate(1_000),
    output=rate(2_000),
    cache_read=rate(100),
    cache_creation=rate(1_250),
    reasoning_output=rate(3_000),
    input_audio=rate(10_000),
    output_audio=rate(20_000),
    cache_creation_1h=rate(2_500),
    input_image=rate(5_000),
    output_image=rate(40_000),
    per_request_picos=7_000,
)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        pytest.param(Tokens(0, 0), Cost(7, 7, 0), id="a request fee is due without any token"),  # type: ignore[arg-type]
        pytest.param(Tokens(10, 5), Cost(27, 17, 10), id="plain tokens"),  # type: ignore[arg-type]
        pytest.param(Tokens(10, 0, cache_read=10), Cost(8, 8, 0), id="all read from the cache"),  # type: ignore[arg-type]
        pytest.param(Tokens(8, 0, cache_creation=4), Cost(16, 16, 0), id="half written to the cache"),  # type: ignore[arg-type]
        pytest.param(Tokens(0, 5, reasoning_output=5), Cost(22, 7, 15), id="all reasoning"),  # type: ignore[arg-type]
        pytest.param(Tokens(2, 2, input_audio=1, output_audio=1), Cost(40, 18, 22), id="audio both ways"),  # type: ignore[arg-type]
        pytest.param(Tokens(8, 0, cache_creation=6, cache_creation_1h=4), Cost(22, 22, 0), id="partly for an hour"),  # type: ignore[arg-type]
        pytest.param(Tokens(3, 3, input_image=2, output_image=1), Cost(62, 18, 44), id="images both ways"),  # type: ignore[arg-type]
        pytest.param(Tokens(4, 0, input_audio=4, input_image=4), Cost(47, 47, 0), id="no token is audio and image"),  # type: ignore[arg-type]
        pytest.param(Tokens(10, 0, cache_read=10, input_image=10), Cost(8, 8, 0), id="cached images are charged once"),  # type: ignore[arg-type]
        pytest.param(Tokens(10, 0, cache_read=10, input_audio=10), Cost(8, 8, 0), id="cached audio is charged once"),  # type: ignore[arg-type]
    ],
)
def test_each_class_is_charged_at_its_own_rate(tokens: Tokens, expected: Cost) -> None:
    assert cost_of(tokens, CLASSES) == expected


@pytest.mark.parametrize(
    ("input_picos", "output_picos", "expected"),
    [
        pytest.param(500, 0, (0, 0, 0), id="half a nano goes to the even zero"),
        pytest.param(1_500, 0, (2, 2, 0), id="one and a half goes to the even two"),
        pytest.param(500, 500, (1, 0, 1), id="two halves are one nano, because the sum is rounded"),
        pytest.param(1_500, 1_500, (3, 2, 1), id="the output is what the rounded input leaves"),
    ],
)
def test_half_even_once(input_picos: int, output_picos: int, expected: tuple[int, int, int]) -> None:
    cost = cost_of(Tokens(1, 1), Price(input=rate(input_picos), output=rate(output_picos)))
    assert (cost.total, cost.input, cost.output) == expected


def test_a_bound_is_rounded_up() -> None:
    price = Price(input=rate(1), output=rate(1), status=PriceStatus.PRICED)
    assert upper_bound(price, input_tokens=1, output_tokens=0, total_tokens=1) == 1


@pytest.mark.parametrize(
    ("without", "bound"),
    [
        pytest.param(Without(), 107, id="nothing is known"),
        pytest.param(Without(audio=True), 57, id="no audio"),
        pytest.param(Without(audio=True, image=True), 32, id="no images either"),
        pytest.param(Without(audio=True, image=True, cache_creation_1h=True), 20, id="nor a cache for an hour"),
    ],
)
def test_a_bound_leaves_out_what_the_input_is_known_not_to_have(without: Without, bound: int) -> None:
    assert upper_bound(CLASSES, input_tokens=10, output_tokens=0, total_tokens=10, without=without) == bound


def test_what_is_kept_for_an_hour_is_charged_as_other_writes_where_it_has_no_rate() -> None:
    price = Price(input=rate(1_000), output=rate(1), cache_creation=rate(1_250))
    assert cost_of(Tokens(4, 0, cache_creation=4, cache_creation_1h=4), price).total == 5
