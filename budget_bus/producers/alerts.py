"""budget.alerts as a feed: no consumer group, so every subscriber hears every alert."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from budget_bus.events.facts import BudgetAlert
from budget_bus.producers.follower import Follower, facts


async def alert_feed(follower: Follower, *, from_beginning: bool) -> AsyncGenerator[BudgetAlert]:
    """
    Yield the alerts that *follower* reads, from the topic's end or its beginning, until closed; a record that is no
    alert is skipped.

    Raises:
        BudgetUnavailable: the broker does not answer at the start; later the feed waits for it.
    """
    await follower.start(back=None if from_beginning else 0)
    try:
        while True:
            for alert in facts(BudgetAlert, await follower.read()):
                yield alert
    finally:
        await follower.stop()
