"""One client's queue: what is conflated, what is left out, and when it is full."""

from __future__ import annotations

import asyncio

import pytest

from budget_bus.http.feeds.outgoing import SLOW, Ending, Outgoing


async def drained(outgoing: Outgoing) -> list[str]:
    """What is to be sent now."""
    found = []
    try:
        while True:
            async with asyncio.timeout(0):
                found.append(await outgoing.get())
    except TimeoutError:
        return found


async def test_messages_leave_in_the_order_in_which_they_came() -> None:
    outgoing = Outgoing(3)
    for text in ("1", "2", "3"):
        outgoing.put(text)
    assert await drained(outgoing) == ["1", "2", "3"]


async def test_of_one_key_only_the_newest_is_sent_in_the_place_of_the_first() -> None:
    outgoing = Outgoing(3)
    outgoing.put("usage 1")
    outgoing.put("daily 1", "daily")
    outgoing.put("usage 2")
    for number in range(2, 1000):
        outgoing.put(f"daily {number}", "daily")
    assert await drained(outgoing) == ["usage 1", "daily 999", "usage 2"]


async def test_a_snapshot_goes_first_and_always_fits() -> None:
    outgoing = Outgoing(1)
    outgoing.put("usage")
    outgoing.put_first("snapshot")
    assert not outgoing.ended.done()
    assert await drained(outgoing) == ["snapshot", "usage"]
    outgoing.put("usage")
    outgoing.put("too much")
    outgoing.put_first("snapshot")
    assert await drained(outgoing) == []


async def test_what_was_taken_is_followed_by_the_next_of_its_key() -> None:
    outgoing = Outgoing(1)
    outgoing.put("daily 1", "daily")
    assert await outgoing.get() == "daily 1"
    outgoing.put("daily 2", "daily")
    assert await outgoing.get() == "daily 2"


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([None, None, None], id="without keys each counts"),
        pytest.param(["a", "b", "c"], id="and so does every key"),
    ],
)
async def test_one_too_many_ends_it_as_too_slow(keys: list[str | None]) -> None:
    outgoing = Outgoing(2)
    outgoing.put("1", keys[0])
    outgoing.put("2", keys[1])
    assert not outgoing.ended.done()
    outgoing.put("3", keys[2])
    assert outgoing.ended.result() == SLOW == (1013, "slow consumer")
    outgoing.put("4")
    assert await drained(outgoing) == []


async def test_a_full_queue_still_takes_the_newest_of_a_key() -> None:
    outgoing = Outgoing(1)
    outgoing.put("1", "daily")
    outgoing.put("2", "daily")
    assert not outgoing.ended.done()
    assert await drained(outgoing) == ["2"]


async def test_what_is_to_be_ignored_is_left_out_once_whether_it_waits_or_comes() -> None:
    outgoing = Outgoing(9)
    outgoing.put("waits", "a")
    outgoing.put("other", "c")
    outgoing.ignore(["a", "b"])
    outgoing.put("comes", "b")
    outgoing.put("a again", "a")
    outgoing.put("b again", "b")
    assert await drained(outgoing) == ["other", "a again", "b again"]


async def test_get_waits_for_what_comes() -> None:
    outgoing = Outgoing(1)
    getting = asyncio.create_task(outgoing.get())
    await asyncio.wait({getting}, timeout=0)
    assert not getting.done()
    outgoing.put("1")
    assert await getting == "1"


async def test_the_first_reason_to_end_stays() -> None:
    outgoing = Outgoing(1)
    outgoing.end(Ending(1011, "failed"))
    outgoing.end(SLOW)
    assert outgoing.ended.result() == (1011, "failed")
