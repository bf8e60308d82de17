"""Which hold an event settles: rules as a table, and the law that no hold is given twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.policy.holds import CLOCK_SKEW, Hold, HoldState, Part, Settling, match_holds, take

CALLER = ("rhetor", "openai", "gpt-4o")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


OTHER = ("codex", "openai", "gpt-4o")


def event(
    number: int,
    *,
    names: int | None = None,
    context: str | None = None,
    after_s: float = 60,
    caller: tuple[str, str, str] = CALLER,
) -> Settling:
    """An event of our caller that happened *after_s* seconds after noon; *names* is the hold that it names."""
    request_id = None if names is None else UUID(int=names)
    return Settling(UUID(int=1000 + number), caller, NOON + timedelta(seconds=after_s), request_id, context)


def hold(
    number: int, *, state: HoldState = HoldState.OPEN, context: str | None = None, at: datetime | None = None
) -> Hold:
    """Hold *number* was decided that many seconds after noon."""
    decided_at = at or NOON + timedelta(seconds=number)
    return Hold(UUID(int=number), state, decided_at, 5, 7, (1,), (5,), context, CALLER[0])


def matched(events: Sequence[Settling], holds: Sequence[Hold]) -> dict[int, int]:
    """Event number -> hold number, the holds being all of the caller's."""
    named = {h.request_id: h for h in holds}
    oldest = sorted((h for h in holds if h.state is HoldState.OPEN), key=lambda h: (h.decided_at, h.request_id))
    given = match_holds(events, named, {CALLER: oldest})
    return {event_id.int - 1000: h.request_id.int for event_id, h in given.items()}


@pytest.mark.parametrize(
    ("events", "holds", "expected"),
    [
        pytest.param([], [], {}, id="nothing of nothing"),
        pytest.param([event(1)], [], {}, id="no hold, nothing to settle"),
        pytest.param([event(1, names=2)], [hold(1), hold(2)], {1: 2}, id="the named hold, not the oldest"),
        pytest.param([event(1)], [hold(2), hold(1)], {1: 1}, id="without a name the oldest"),
        pytest.param([event(1), event(2)], [hold(1), hold(2)], {1: 1, 2: 2}, id="oldest first, each hold once"),
        pytest.param([event(1), event(2)], [hold(1)], {1: 1}, id="more events than holds"),
        pytest.param(
            [event(1), event(2, names=1)], [hold(1), hold(2)], {1: 2, 2: 1}, id="named first, also if it comes later"
        ),
        pytest.param([event(1, names=1), event(2, names=1)], [hold(1), hold(2)], {1: 1}, id="a named hold once"),
        pytest.param([event(1, names=9)], [hold(1)], {}, id="an unknown name never settles another hold"),
        pytest.param([event(1, names=2)], [hold(1), hold(2, state=HoldState.SETTLED)], {}, id="nor does a settled one"),
        pytest.param([event(1, names=1, caller=OTHER)], [hold(1)], {}, id="nor does another component's"),
        pytest.param(
            [event(1, names=1, caller=OTHER), event(2, names=1)], [hold(1)], {2: 1}, id="which stays its asker's"
        ),
        pytest.param([event(1, names=2)], [hold(1), hold(2, state=HoldState.VOIDED)], {}, id="nor does a voided one"),
        pytest.param(
            [event(1, names=2)], [hold(1), hold(2, state=HoldState.EXPIRED)], {}, id="nor does an expired one"
        ),
        pytest.param(
            [event(1, names=2)], [hold(1), hold(2, state=HoldState.UNCONFIRMED)], {1: 2}, id="late usage settles"
        ),
        pytest.param(
            [event(1, context="b")], [hold(1, context="a"), hold(2, context="b")], {1: 2}, id="of its context"
        ),
        pytest.param([event(1, context="b")], [hold(1, context="a")], {}, id="never of another context"),
        pytest.param([event(1, context="b")], [hold(1)], {}, id="nor of none, when the event has one"),
        pytest.param([event(1)], [hold(1, context="a")], {1: 1}, id="of any context, when the event has none"),
        pytest.param(
            [event(1, names=1, context="b")], [hold(1, context="a")], {1: 1}, id="a name counts more than a context"
        ),
        pytest.param([event(1, after_s=-3600)], [hold(1)], {}, id="an event of long ago settles no hold of today"),
        pytest.param([event(1, after_s=-4)], [hold(1)], {1: 1}, id="two clocks may differ by as much as the skew"),
        pytest.param([event(1, after_s=-4.001)], [hold(1)], {}, id="but not by more"),
        pytest.param(
            [event(1, after_s=-3600), event(2)], [hold(1)], {2: 1}, id="an old event leaves the hold to a later one"
        ),
        pytest.param([event(1, names=1, after_s=-3600)], [hold(1)], {1: 1}, id="a name counts more than the time"),
    ],
)
def test_an_event_settles(events: Sequence[Settling], holds: Sequence[Hold], expected: dict[int, int]) -> None:
    assert timedelta(seconds=5) == CLOCK_SKEW
    assert matched(events, holds) == expected


def test_an_event_settles_no_hold_of_another_caller() -> None:
    other = ("hermes", *CALLER[1:])
    assert match_holds([event(1)], {}, {other: [hold(1)]}) == {}


@pytest.mark.parametrize("state", HoldState)
def test_only_open_and_unconfirmed_holds_can_be_settled(state: HoldState) -> None:
    assert hold(1, state=state).settleable is (state in (HoldState.OPEN, HoldState.UNCONFIRMED))


contexts = st.sampled_from([None, "a", "b"])
event_lists = st.lists(
    st.tuples(st.none() | st.integers(1, 8), contexts, st.integers(-30, 30)), max_size=8
).map(lambda rows: [event(i, names=n, context=c, after_s=s) for i, (n, c, s) in enumerate(rows)])  # fmt: skip
hold_lists = st.lists(st.tuples(st.sampled_from(HoldState), contexts), max_size=8).map(
    lambda rows: [hold(i + 1, state=state, context=context) for i, (state, context) in enumerate(rows)]
)


@given(event_lists, hold_lists)
def test_each_hold_is_given_at_most_once(events: list[Settling], holds: list[Hold]) -> None:
    found = matched(events, holds)
    assert len(set(found.values())) == len(found)
    for number, given_hold in found.items():
        asked, h = events[number], holds[given_hold - 1]
        assert h.settleable
        assert asked.request_id in (None, h.request_id)
        if asked.request_id is None:
            assert h.state is HoldState.OPEN
            assert h.decided_at <= asked.occurred_at + CLOCK_SKEW
            assert asked.context_id in (None, h.context_id)


@given(event_lists, hold_lists)
def test_no_event_is_left_without_a_hold_that_it_could_have(events: list[Settling], holds: list[Hold]) -> None:
    found = matched(events, holds)
    free = [h for h in holds if h.state is HoldState.OPEN and h.request_id.int not in found.values()]
    for number, asked in enumerate(events):
        if number not in found and asked.request_id is None:
            assert not any(
                asked.context_id in (None, h.context_id) and h.decided_at <= asked.occurred_at + CLOCK_SKEW
                for h in free
            )


@pytest.mark.parametrize(
    ("part", "rest", "off"),
    [
        pytest.param(Part(5, 7, 1), (95, 63, 9), {1: 5, 2: 7, 3: 1}, id="a call takes its part"),
        pytest.param(Part(500, 7, 1), (0, 63, 9), {1: 100, 2: 7, 3: 1}, id="no more than is left"),
        pytest.param(
            Part(5, 7, 10), (0, 0, 0), {1: 100, 2: 70, 3: 10}, id="with the last call goes what none has used"
        ),
        pytest.param(Part(5, 7, 11), (0, 0, 0), {1: 100, 2: 70, 3: 10}, id="and with one call too many"),
    ],
)
def test_a_lease_is_taken_part_by_part(part: Part, rest: tuple[int, int, int], off: dict[int, int]) -> None:
    lease = Hold(
        UUID(int=1), HoldState.OPEN, NOON, 100, 70, (1, 2, 3), (100, 70, 10), lease=True, calls=10, units="ctr"
    )
    left, taken = take(lease, part)
    assert ((left.cost_nanos, left.tokens, left.calls), taken) == (rest, off)
    assert left.amounts == rest
