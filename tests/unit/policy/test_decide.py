"""Decisions: a table of policies and balances, and the law that no order of grants passes a hard limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.policy.budget import Balance, Budget, LimitSpec, Policy, Unit
from budget_bus.policy.decide import Action, Line, Verdict, decide
from budget_bus.policy.scope import Scope
from budget_bus.policy.windows import Period, Window

START = datetime(2026, 11, 23, tzinfo=UTC)
_ids = count(1)


def line(
    policy: Policy = Policy.HARD_LIMIT,
    *,
    limit: int = 100,
    amount: int | None = 10,
    spent: int = 0,
    held: int = 0,
    unconfirmed: int = 0,
    hours: int | None = 24,
    **spec: Any,
) -> Line:
    """A budget of *limit*, `hours` before its window ends; None: never."""
    said = LimitSpec(name="daily", scope=Scope(), period=Period.DAILY, unit=Unit.COST, limit=limit, currency="USD")
    budget = Budget(UUID(int=next(_ids)), replace(said, **spec), 1)
    window = Window(START, None if hours is None else START + timedelta(hours=hours))
    return Line(budget, policy, window, Balance(spent, held, unconfirmed), amount, limit)


@pytest.mark.parametrize(
    ("lines", "action"),
    [
        pytest.param([], Action.ALLOW, id="no budget, no limit"),
        pytest.param([line(spent=90)], Action.ALLOW, id="an exact fit is allowed"),
        pytest.param([line(spent=91)], Action.DENY, id="one over is denied"),
        pytest.param([line(held=91)], Action.DENY, id="one over, because held counts"),
        pytest.param([line(unconfirmed=91)], Action.DENY, id="one over, because unconfirmed counts"),
        pytest.param([line(spent=31, held=30, unconfirmed=30)], Action.DENY, id="one over, because all three count"),
        pytest.param([line(spent=30, held=30, unconfirmed=30)], Action.ALLOW, id="an exact fit of all three"),
        pytest.param([line(limit=0, amount=1)], Action.DENY, id="a limit of 0 lets nothing be spent"),
        pytest.param([line(limit=0, amount=0)], Action.ALLOW, id="a limit of 0 lets a free call pass"),
        pytest.param([line(Policy.WARN, limit=0, amount=1)], Action.WARN, id="a limit of 0 warns, too"),
        pytest.param([line(amount=None)], Action.DENY, id="an unpriced call is denied by a hard limit"),
        pytest.param([line(Policy.SOFT_LIMIT, amount=None)], Action.DEGRADE, id="unpriced on a soft limit degrades"),
        pytest.param([line(Policy.WARN, amount=None)], Action.WARN, id="unpriced on WARN warns"),
        pytest.param([line(Policy.IGNORE, amount=None)], Action.ALLOW, id="unpriced on IGNORE is allowed"),
        pytest.param(
            [line(Policy.SOFT_LIMIT, amount=None, ceiling_percent=120)], Action.DENY, id="unpriced below a ceiling"
        ),
        pytest.param([line(Policy.SOFT_LIMIT, spent=91)], Action.DEGRADE, id="over a soft limit degrades"),
        pytest.param([line(Policy.SOFT_LIMIT, spent=500)], Action.DEGRADE, id="far over a soft limit degrades"),
        pytest.param([line(Policy.WARN, spent=500)], Action.WARN, id="over WARN warns"),
        pytest.param([line(Policy.IGNORE, spent=500)], Action.ALLOW, id="over IGNORE is allowed"),
        pytest.param(
            [line(Policy.SOFT_LIMIT, spent=110, ceiling_percent=120)], Action.DEGRADE, id="an exact fit of the ceiling"
        ),
        pytest.param(
            [line(Policy.SOFT_LIMIT, spent=111, ceiling_percent=120)], Action.DENY, id="one over the ceiling is denied"
        ),
        pytest.param(
            [line(Policy.SOFT_LIMIT, held=111, ceiling_percent=120)], Action.DENY, id="held counts to the ceiling"
        ),
        pytest.param(
            [line(Policy.SOFT_LIMIT, limit=3, amount=1, spent=3, ceiling_percent=133)],
            Action.DENY,
            id="a ceiling of 3.99 is not 4",
        ),
        pytest.param(
            [line(Policy.WARN, spent=500, ceiling_percent=120)], Action.WARN, id="a ceiling belongs to soft limits"
        ),
        pytest.param([line(spent=500, shadow=True)], Action.ALLOW, id="a shadow limit denies nothing"),
        pytest.param([line(Policy.SOFT_LIMIT, spent=500, shadow=True)], Action.ALLOW, id="a shadow degrades nothing"),
        pytest.param([line(Policy.WARN, spent=500, shadow=True)], Action.ALLOW, id="a shadow leaves the action alone"),
        pytest.param([line(amount=None, shadow=True)], Action.ALLOW, id="a shadow lets unpriced calls pass"),
        pytest.param([line(), line(spent=91)], Action.DENY, id="one refusal refuses the whole"),
        pytest.param(
            [line(Policy.WARN, spent=91), line(Policy.SOFT_LIMIT, spent=91)], Action.DEGRADE, id="degrade beats warn"
        ),
        pytest.param([line(Policy.WARN, spent=91), line(Policy.IGNORE, spent=91)], Action.WARN, id="warn beats ignore"),
    ],
)
def test_the_action(lines: Sequence[Line], action: Action) -> None:
    verdict = decide(lines)
    assert verdict.action is action
    assert verdict.allowed is (action is not Action.DENY)
    assert (verdict.binding is not None) is (action is Action.DENY)
    assert (verdict.reason is not None) is (action in (Action.DENY, Action.DEGRADE))
    assert decide(lines[::-1]).action is action


@pytest.mark.parametrize(
    ("lines", "binding"),
    [
        pytest.param([line(spent=91)], 0, id="the one that refuses"),
        pytest.param([line(hours=720), line(spent=91, hours=1)], 1, id="not one that would fit, however long"),
        pytest.param([line(spent=91, hours=1), line(spent=91, hours=24)], 1, id="of two, the one that ends last"),
        pytest.param([line(spent=91, hours=24), line(spent=91, hours=1)], 0, id="whichever way round"),
        pytest.param([line(spent=91, hours=None), line(spent=91, hours=720)], 0, id="a total budget ends never"),
        pytest.param(
            [line(spent=91, hours=1), line(spent=91, hours=None, shadow=True)], 0, id="never one that is a shadow"
        ),
        pytest.param(
            [line(Policy.WARN, spent=91, hours=720), line(spent=91, hours=1)], 1, id="never one that only warns"
        ),
        pytest.param(
            [line(spent=91, hours=1), line(Policy.SOFT_LIMIT, spent=111, ceiling_percent=120)], 1, id="a ceiling binds"
        ),
    ],
)
def test_the_binding_budget_is_the_refusing_one_that_frees_up_last(lines: Sequence[Line], binding: int) -> None:
    assert decide(lines).binding == binding


def test_a_denial_says_what_is_needed_and_what_is_left() -> None:
    verdict = decide([line(limit=10_000_000_000, amount=2_500_000_000, spent=8_000_000_000)])
    assert verdict.reason == "budget 'daily' (daily) would be exceeded: the call needs 2.5 USD, 2 of 10 USD is left"
    assert verdict.warnings == (verdict.reason,)


def test_what_is_left_is_never_below_nothing() -> None:
    reason = decide([line(unit=Unit.TOKENS, currency=None, spent=500)]).reason
    assert reason is not None
    assert reason.endswith("the call needs 10 tokens, 0 of 100 tokens is left")


def test_an_unpriced_denial_says_so() -> None:
    assert str(decide([line(amount=None)]).reason).startswith("unpriced:")


def test_a_shadow_budget_only_adds_a_warning() -> None:
    verdict = decide([line(spent=91, shadow=True)])
    assert verdict == Verdict(Action.ALLOW, warnings=verdict.warnings)
    assert "(shadow: not enforced)" in verdict.warnings[0]


def test_warnings_name_all_that_is_over_but_ignored_ones() -> None:
    over = [line(policy, spent=91, name=policy.value) for policy in Policy]
    assert [text.split("'")[1] for text in decide(over).warnings] == ["WARN", "SOFT_LIMIT", "HARD_LIMIT"]
    assert decide([line(policy, spent=90) for policy in Policy]).warnings == ()


@st.composite
def budgets(draw: st.DrawFn) -> Line:
    return line(
        draw(st.sampled_from(Policy)),
        limit=draw(st.integers(0, 60)),
        ceiling_percent=draw(st.none() | st.integers(100, 150)),
        shadow=draw(st.booleans()),
        hours=draw(st.none() | st.integers(1, 48)),
    )


# What a call asks for, then how it ends: settled by a share of its hold, given back, or never heard of again.
calls = st.tuples(st.integers(0, 25), st.sampled_from(["settled", "voided", "unconfirmed", "open"]), st.floats(0, 1))


@given(st.lists(budgets(), min_size=1, max_size=4), st.lists(calls, max_size=25), st.randoms(use_true_random=False))
def test_no_order_of_grants_and_ends_passes_a_hard_limit(
    lines: list[Line], wanted: list[tuple[int, str, float]], random: Any
) -> None:
    balances = [Balance()] * len(lines)
    running: list[tuple[int, str, float]] = []
    for amount, end, share in wanted:
        asked = [replace(li, balance=b, amount=amount) for li, b in zip(lines, balances, strict=True)]
        if decide(asked).allowed:
            running.append((amount, end, share))
            balances = [Balance(b.spent, b.held + amount, b.unconfirmed) for b in balances]
        for _ in range(random.randint(0, len(running))):
            held, how, part = running.pop(random.randrange(len(running)))
            spent, lost = (int(held * part) if how == "settled" else 0), (held if how == "unconfirmed" else 0)
            kept = held if how == "open" else 0
            balances = [Balance(b.spent + spent, b.held - held + kept, b.unconfirmed + lost) for b in balances]
        for li, balance in zip(lines, balances, strict=True):
            spec = li.budget.spec
            if li.policy is Policy.HARD_LIMIT and not spec.shadow:
                assert balance.committed <= spec.limit
            elif li.policy is Policy.SOFT_LIMIT and not spec.shadow and spec.ceiling_percent is not None:
                assert 100 * balance.committed <= spec.ceiling_percent * spec.limit


@given(st.lists(budgets(), max_size=4), st.integers(0, 100), st.integers(0, 100))
def test_a_smaller_call_is_never_refused_where_a_larger_one_passes(lines: list[Line], small: int, more: int) -> None:
    if decide([replace(li, amount=small + more) for li in lines]).allowed:
        assert decide([replace(li, amount=small) for li in lines]).allowed


def test_a_denial_by_a_ceiling_names_it() -> None:
    verdict = decide([line(Policy.SOFT_LIMIT, spent=115, ceiling_percent=120)])
    assert verdict.action is Action.DENY
    assert (verdict.reason or "").endswith("; its ceiling is 120 %")


def test_a_reason_names_the_context_whose_window_it_is() -> None:
    run = line(spent=100)
    verdict = decide([replace(run, window=Window(START, None, "run-7"))])
    assert "(daily, context 'run-7') would be exceeded" in (verdict.reason or "")
