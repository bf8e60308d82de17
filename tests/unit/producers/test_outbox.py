"""Conflation: of several balances of one budget's window only the last is sent, everything else as it is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.events.topics import BUDGET_ALERTS, BUDGET_CHANGES, BUDGET_UPDATES
from budget_bus.producers.outbox import conflated
from budget_bus.store.outbox import Message, Waiting, to_json

AT = datetime(2026, 11, 23, tzinfo=UTC)


def waiting(number: int, topic: str = BUDGET_UPDATES, key: bytes | None = b"one") -> Waiting:
    fact = {"window_start": AT, "spent": str(number)}
    return Waiting(number, Message(topic, key, to_json(fact)), [], AT)


@pytest.mark.parametrize(
    ("queue", "sent"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([waiting(1)], [1], id="a single update"),
        pytest.param([waiting(1), waiting(2), waiting(3)], [3], id="the last of several"),
        pytest.param([waiting(1), waiting(2, key=b"two"), waiting(3)], [2, 3], id="each budget's last"),
        pytest.param([waiting(1, BUDGET_ALERTS), waiting(2, BUDGET_ALERTS)], [1, 2], id="every alert"),
        pytest.param([waiting(1, BUDGET_CHANGES), waiting(2, BUDGET_CHANGES)], [1, 2], id="every change"),
        pytest.param(
            [waiting(1, "usage.recorded.dlq", None), waiting(2, "usage.recorded.dlq", None)],
            [1, 2],
            id="every dead letter, with a key or without",
        ),
        pytest.param(
            [waiting(1), waiting(2, BUDGET_ALERTS), waiting(3), waiting(4, BUDGET_CHANGES)],
            [2, 3, 4],
            id="in the order of the queue",
        ),
    ],
)
def test_what_is_sent(queue: list[Waiting], sent: list[int]) -> None:
    assert [item.outbox_id for item in conflated(queue)] == sent


topics = st.sampled_from([BUDGET_UPDATES, BUDGET_ALERTS, BUDGET_CHANGES, "usage.recorded.dlq"])


@given(st.lists(st.tuples(topics, st.sampled_from([b"one", b"two", None]))))
def test_a_listener_ends_with_the_same_balances_and_misses_nothing_else(rows: list[tuple[str, bytes | None]]) -> None:
    queue = [waiting(i, topic, key) for i, (topic, key) in enumerate(rows)]
    sent = conflated(queue)
    assert [item for item in queue if item in sent] == sent
    assert [i for i in queue if i.message.topic != BUDGET_UPDATES] == [
        i for i in sent if i.message.topic != BUDGET_UPDATES
    ]
    balances = [item for item in queue if item.message.topic == BUDGET_UPDATES]
    last = {item.message.key: item for item in balances}
    assert {i.message.key: i for i in sent if i.message.topic == BUDGET_UPDATES} == last
    assert conflated(sent) == sent
