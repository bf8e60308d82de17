"""/ws/alerts: the open alerts, then each alert once, as it is raised."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel

from budget_bus.errors import BudgetUnavailable
from budget_bus.events.facts import BudgetAlert
from budget_bus.events.topics import BUDGET_ALERTS
from budget_bus.http.feeds.feed import Message, Publish, Told, Wants
from budget_bus.http.feeds.outgoing import Outgoing
from budget_bus.http.feeds.socket import FeedEndpoint
from budget_bus.http.parts import Parts
from budget_bus.http.query import Query
from budget_bus.producers.follower import Follower, facts
from budget_bus.store import reads

RECENT = 1000  # alerts that are remembered in the order of the topic, and the most that a snapshot has
_OPENING_S = 10.0
# By how much an alert that came after another may have been raised before it: clocks differ, and batches take time.
_OVERTAKING = timedelta(minutes=1)


class AlertFeedQuery(Query):
    """`since` is the last alert that was received."""

    since: UUID | None = None


class AlertSnapshot(BaseModel):
    """Alerts, oldest first. Without `complete` there were more than 1,000: these are the newest of them."""

    alerts: list[BudgetAlert]
    complete: bool


class AlertReader:
    """
    budget.alerts from its end on, each alert once, and the order of those before.

    Only that order says what came after an alert: many are raised in one moment, and a batch may commit after one that
    began later. The topic has one partition, so its order is the same for everybody.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._follower: Follower | None = None
        self._recent: OrderedDict[UUID, tuple[int, BudgetAlert]] = OrderedDict()
        self.newest = -1  # the place of the last one

    async def open(self) -> None:
        """As `Reader.open`; the last 1,000 alerts of the topic are known then."""
        follower = await self._parts.bus.follower(BUDGET_ALERTS)
        await follower.start(back=RECENT)
        try:
            async with asyncio.timeout(_OPENING_S):
                while not await follower.has_caught_up():
                    self._unheard(facts(BudgetAlert, await follower.read()))
        except BaseException as error:
            await follower.stop()
            if not isinstance(error, TimeoutError):
                raise
            raise BudgetUnavailable("the broker does not give the alerts of before") from None
        self._follower = follower

    async def run(self, publish: Publish) -> None:
        """As `Reader.run`."""
        assert self._follower is not None  # noqa: S101  # open comes first
        while True:
            for alert in self._unheard(facts(BudgetAlert, await self._follower.read())):
                message = Message(type="alert", at=alert.raised_at, payload=alert)
                publish(Told(message.model_dump_json(), key=alert.alert_id))
            # Those who are told have their turn before the next are read.
            await asyncio.sleep(0)

    async def close(self) -> None:
        """As `Reader.close`."""
        if self._follower is not None:
            await self._follower.stop()

    def after(self, alert_id: UUID) -> list[BudgetAlert] | None:
        """What the topic has after an alert; None if it is not among the last 1,000."""
        if alert_id not in self._recent:
            return None
        place, _ = self._recent[alert_id]
        return [alert for later, alert in self._recent.values() if later > place]

    def place(self, alert_id: UUID, *, upto: int) -> int | None:
        """The place of an alert in the topic's order; None if it is unknown or lies beyond *upto*."""
        place, _ = self._recent.get(alert_id, (None, None))
        return place if place is not None and place <= upto else None

    def _unheard(self, alerts: Sequence[BudgetAlert]) -> list[BudgetAlert]:
        """Those of *alerts* that have not come before: the relay may publish one twice."""
        new = []
        for alert in alerts:
            if alert.alert_id not in self._recent:
                self.newest += 1
                self._recent[alert.alert_id] = (self.newest, alert)
                new.append(alert)
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        return new


async def snapshot(parts: Parts, query: AlertFeedQuery, reader: AlertReader, outgoing: Outgoing) -> AlertSnapshot:
    """
    What the client is told first, of which *outgoing* then tells nothing: the open alerts, or those after `since`.

    An alert that is in the snapshot and not yet in the topic is told first of all: the last one that a client has heard
    is then always one that others come after.
    """
    heard = reader.newest
    after = reader.after(query.since) if query.since else None
    if after is not None:
        return AlertSnapshot(alerts=after, complete=True)
    raised_at = await reads.alert_raised_at(parts.pool, query.since) if query.since else None
    if query.since and raised_at:
        since = raised_at - _OVERTAKING
        rows = await reads.alerts_since(parts.pool, since, but=query.since, count=RECENT + 1)
    else:
        rows = await reads.alerts(parts.pool, budget_ids=None, acknowledged=False, before=None, count=RECENT + 1)
    alerts = [BudgetAlert.model_validate(row["payload"]) for row in rows[:RECENT]]
    places = {alert.alert_id: reader.place(alert.alert_id, upto=heard) for alert in alerts}
    outgoing.ignore(alert_id for alert_id, place in places.items() if place is None)
    alerts.sort(key=lambda alert: (_first(places[alert.alert_id]), alert.raised_at))
    return AlertSnapshot(alerts=alerts, complete=len(rows) <= RECENT)


def _first(place: int | None) -> int:
    return -1 if place is None else place


def wants(_query: AlertFeedQuery) -> Wants:
    """Every alert is told to everybody."""
    return lambda _told: True


FEED = FeedEndpoint(
    path="/ws/alerts", name="alerts", query=AlertFeedQuery, reader=AlertReader, wants=wants, snapshot=snapshot
)
