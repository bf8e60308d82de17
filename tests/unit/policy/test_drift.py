"""A million rounded costs: each is the nearest nano, and their sum does not wander off."""

from __future__ import annotations

import random
from fractions import Fraction

from budget_bus.money import PicosPerToken
from budget_bus.policy.pricing import Price, Rate, Tokens, cost_of

EVENTS = 1_000_000
PER_NANO = 1000


def test_a_million_costs_do_not_drift() -> None:
    chance = random.Random(20260101)
    prices = [
        Price(
            input=Rate(PicosPerToken(chance.randrange(1, 20_000))),
            output=Rate(PicosPerToken(chance.randrange(1, 60_000))),
        )
        for _ in range(50)
    ]
    booked = exact_picos = 0
    for _ in range(EVENTS):
        price, read, written = chance.choice(prices), chance.randrange(2000), chance.randrange(500)
        cost = cost_of(Tokens(read, written), price)
        picos = read * price.input.base + written * price.output.base
        assert cost.total == round(Fraction(picos, PER_NANO))  # half to even
        assert cost.input + cost.output == cost.total
        booked += cost.total
        exact_picos += picos
    # Rounding errors are even in both directions, so a million of them stay within a few thousand halves of a nano:
    # six standard deviations of as many independent errors, each evenly spread over one nano.
    drift = abs(booked * PER_NANO - exact_picos)
    assert drift < 6 * (EVENTS / 12) ** 0.5 * PER_NANO
