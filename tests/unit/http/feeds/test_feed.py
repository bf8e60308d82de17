"""One reader for all clients: when it begins, when it ends, and what its failure means for them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from budget_bus import metrics
from budget_bus.errors import BudgetUnavailable
from budget_bus.http.feeds import feed as feeds
from budget_bus.http.feeds.feed import FAILED, Feed, Publish, Told
from budget_bus.http.feeds.outgoing import SLOW


class Source:
    """A reader that says what the test wants it to, and counts its lives."""

    def __init__(self) -> None:
        self.life: list[str] = []
        self.refuses = False
        self.publish: Publish | None = None
        self.failure = asyncio.Event()

    async def open(self) -> None:
        self.life.append("open")
        await asyncio.sleep(0)
        if self.refuses:
            raise BudgetUnavailable("the broker does not answer")

    async def run(self, publish: Publish) -> None:
        self.publish = publish
        await self.failure.wait()
        raise ValueError("a fault of ours")

    async def close(self) -> None:
        self.life.append("close")


@pytest.fixture
async def source() -> Source:
    return Source()


@pytest.fixture
def feed(source: Source) -> Feed[Source]:
    return Feed("test", lambda: source)


def everything(_told: Told) -> bool:
    return True


def listening() -> float | None:
    return metrics.REGISTRY.get_sample_value("budget_bus_ws_clients", {"feed": "test"})


async def test_it_is_read_while_somebody_listens(feed: Feed[Source], source: Source) -> None:
    assert source.life == []
    async with feed.join(everything):
        async with feed.join(everything):
            assert (source.life, listening()) == (["open"], 2)
        assert (source.life, listening()) == (["open"], 1)
    assert (source.life, listening()) == (["open", "close"], 0)
    async with feed.join(everything):
        assert source.life == ["open", "close", "open"]


async def test_each_client_is_told_what_it_wants(feed: Feed[Source]) -> None:
    async with feed.join(everything) as (_, all_), feed.join(lambda told: told.component == "rhetor") as (_, some):
        feed.publish(Told("1", component="apollo"))
        feed.publish(Told("2", component="rhetor"))
        assert [await all_.get(), await all_.get()] == ["1", "2"]
        assert await some.get() == "2"


async def test_one_that_is_full_takes_nothing_from_the_others(
    feed: Feed[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "BACKLOG", 2)
    async with feed.join(everything) as (_, stuck), feed.join(everything) as (_, reads):
        for number in range(10):
            feed.publish(Told(str(number)))
            assert await reads.get() == str(number)
        assert stuck.ended.result() == SLOW
        assert not reads.ended.done()


async def test_a_reader_that_fails_ends_its_clients_and_the_next_gets_a_new_one(
    feed: Feed[Source], source: Source
) -> None:
    async with feed.join(everything) as (_, outgoing):
        source.failure.set()
        assert await outgoing.ended == FAILED
        source.failure.clear()
        async with feed.join(everything) as (_, other):
            assert source.life == ["open", "close", "open"]
            feed.publish(Told("1"))
            assert await other.get() == "1"


async def test_those_who_waited_for_a_failure_fail_with_it(feed: Feed[Source], source: Source) -> None:
    source.refuses = True

    async def joined() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(feed.join(everything))

    outcomes = await asyncio.gather(*(joined() for _ in range(100)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {BudgetUnavailable}
    assert source.life == ["open"]
