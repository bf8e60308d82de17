"""Conflation: of several balances of one budget's window only the last is sent, everything else as it is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.events.topics import BUDGET_ALERTS, BUDGET_CHANGES, BUDGET_UPDATES
from budget_bus.producers.outbox import conflated, cut
from budget_bus.store.outbox import Message, Waiting, to_json

AT = datetime(2026, 11, 23, tzinfo=UTC)
NEXT_DAY = datetime(2026, 11, 24, tzinfo=UTC)


def waiting(number: int, topic: str = BUDGET_UPDATES, key: bytes | None = b"one", at: datetime = AT) -> Waiting:
    fact = {"name": '"window_start":"x"', "window_start": at, "spent": str(number)}
    return Waiting(number, Message(topic, key, to_json(fact)), [], AT)


@pytest.mark.parametrize(
    ("queue", "sent"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([waiting(1)], [1], id="a single update"),
        pytest.param([waiting(1), waiting(2), waiting(3)], [3], id="the last of several"),
        pytest.param([waiting(1), waiting(2, key=b"two"), waiting(3)], [2, 3], id="each budget's last"),
        pytest.param([waiting(1), waiting(2, at=NEXT_DAY), waiting(3)], [2, 3], id="each window's last"),
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


headers = st.lists(st.tuples(st.sampled_from(["dlq_reason", "trace", "x"]), st.binary(max_size=400)), max_size=4)


@given(st.none() | st.binary(max_size=2000), st.none() | st.binary(max_size=2000), headers, st.integers(64, 1500))
def test_what_is_cut_fits_and_says_so(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], size: int
) -> None:
    small = cut(Waiting(7, Message("usage.recorded.dlq", key, value), headers, AT), size)
    assert small.outbox_id == 7
    names = sum(len(name) + len(text) for name, text in small.headers if name != "dlq_truncated")
    assert len(small.message.key or b"") + len(small.message.value or b"") + names <= size
    assert (value is None) == (small.message.value is None)
    assert (value or b"").startswith(small.message.value or b"")
    assert dict(small.headers)["dlq_truncated"] == str(len(value or b"")).encode()


def test_a_cut_dead_letter_keeps_where_it_came_from() -> None:
    told = [("trace", b"x" * 900), ("dlq_reason", b"too long"), ("dlq_offset", b"7")]
    small = cut(Waiting(1, Message("usage.recorded.dlq", b"key", b"v" * 5000), told, AT), 1000)
    assert dict(small.headers) == {"dlq_truncated": b"5000", "dlq_reason": b"too long", "dlq_offset": b"7"}
    assert small.message.key == b"key"
    assert len(small.message.value or b"") > 900
