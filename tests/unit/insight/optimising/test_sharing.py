"""Allocations are cut by a linear program whose dual values were computed by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_bus.insight.optimising.sharing import Part, best_cut, shadow_prices


def part(name: str, percent: str, *demand: float, floor: str = "0") -> Part:
    return Part(name, Decimal(percent), demand, Decimal(floor))


@pytest.mark.parametrize(
    ("parts", "limits", "expected"),
    [
        pytest.param(
            [part("codex", "30", 10, 10, 2, 10), part("rhetor", "70", 1, 1, 1, 1)],
            [10, 10, 10, 10],
            (0.75, 0.0),
            id="one more dollar a day is used on the three days of four that codex was refused something",
        ),
        pytest.param(
            [part("codex", "50", 5), part("rhetor", "50", 4)], [10], (0.0, 0.0), id="demand that is just met wants none"
        ),
        pytest.param(
            [part("codex", "50", 9, 5), part("rhetor", "50", 9, 9)],
            [10, 10],
            (0.5, 1.0),
            id="each has its own price",
        ),
        pytest.param(
            [part("codex", "50", 60, 6), part("rhetor", "50", 0, 0)],
            [100, 10],
            (1.0, 0.0),
            id="a dollar is a dollar, however large the window's limit is",
        ),
    ],
)
def test_shadow_prices(parts: list[Part], limits: list[float], expected: tuple[float, ...]) -> None:
    assert shadow_prices(parts, limits) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("parts", "limits", "others", "most", "expected", "gained"),
    [
        pytest.param(
            [part("codex", "30", 8, 8), part("rhetor", "70", 2, 2)],
            [10, 10],
            [0, 0],
            "100",
            ("80", "20"),
            10,
            id="what one does not use goes to the other",
        ),
        pytest.param(
            [part("codex", "30", 8, 8), part("rhetor", "70", 2, 2, floor="50")],
            [10, 10],
            [0, 0],
            "100",
            ("50", "50"),
            4,
            id="down to the floor",
        ),
        pytest.param(
            [part("codex", "30", 2, 2), part("rhetor", "70", 2, 2)],
            [10, 10],
            [0, 0],
            "100",
            ("30", "70"),
            0,
            id="nobody was refused anything, so nothing changes",
        ),
        pytest.param(
            [part("codex", "30", 5), part("rhetor", "30", 1)],
            [10],
            [0],
            "100",
            ("50", "30"),
            2,
            id="what nobody had is given away first, and no more than was asked for",
        ),
        pytest.param(
            [part("codex", "30", 9), part("rhetor", "30", 1)],
            [10],
            [5],
            "100",
            ("40", "30"),
            1,
            id="what others use of the parent cannot be given",
        ),
        pytest.param(
            [part("codex", "60", 10), part("rhetor", "40", 10)],
            [10],
            [0],
            "100",
            ("60", "40"),
            0,
            id="of equally good cuts the present one stays",
        ),
    ],
)
def test_the_best_cut(
    *, parts: list[Part], limits: list[float], others: list[float], most: str, expected: tuple[str, ...], gained: float
) -> None:
    cut = best_cut(parts, limits, others, most=Decimal(most))
    assert cut.percents == tuple(map(Decimal, expected))
    assert cut.admitted - cut.admitted_now == pytest.approx(gained, abs=1e-6)


demands = st.lists(st.lists(st.floats(0, 1e6), min_size=3, max_size=3), min_size=2, max_size=5)


@settings(deadline=None, max_examples=60)
@given(demands, st.floats(1, 1e6))
def test_no_cut_gives_away_more_than_there_is_or_admits_less_than_now(demand: list[list[float]], limit: float) -> None:
    each = (Decimal(100) / len(demand)).quantize(Decimal("0.0001"), "ROUND_DOWN")
    parts = [Part(str(i), each, one) for i, one in enumerate(demand)]
    cut = best_cut(parts, [limit] * 3, [0.0] * 3, most=Decimal(100))
    assert sum(cut.percents) <= 100
    assert all(percent == round(percent, 4) and percent >= 0 for percent in cut.percents)
    assert cut.admitted >= cut.admitted_now - 1e-6 * limit
    assert all(0 <= price <= 1 + 1e-9 for price in cut.shadow_prices)
