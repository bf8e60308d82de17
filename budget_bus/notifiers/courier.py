"""Hands alerts to one channel: again and again, until each is taken or given up."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

import structlog

from budget_bus import metrics
from budget_bus.events.facts import BudgetAlert
from budget_bus.notifiers.attempts import Patience, Refused, TryAgain

SEVERITIES = ("info", "warning", "error")

log = structlog.get_logger()


class Channel(Protocol):
    """A way to tell somebody. `send` tries once, and raises TryAgain or Refused if the alert was not taken."""

    @property
    def name(self) -> str: ...

    async def send(self, alert: BudgetAlert) -> None: ...


class Courier:
    """One channel's courier. Nothing that its receiver does raises, so a dead receiver stops nobody."""

    def __init__(
        self,
        channel: Channel,
        *,
        patience: Patience,
        max_age_s: float,
        min_severity: str,
        stopping: asyncio.Event,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Awaitable[None]] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.channel = channel
        self._patience, self._max_age_s = patience, max_age_s
        self._from = SEVERITIES.index(min_severity)
        self._stopping = stopping
        self._now, self._monotonic, self._jitter = now, monotonic, jitter
        self._wait = wait or self._wait_or_stop

    async def deliver(self, alert: BudgetAlert) -> bool:
        """Hand over *alert*. False if the process stops before it is taken or given up: it has to come again."""
        if SEVERITIES.index(alert.severity) < self._from:
            return True
        age_s = (self._now() - alert.raised_at).total_seconds()
        if age_s > self._max_age_s:
            metrics.NOTIFICATIONS.labels(self.channel.name, "too_old").inc()
            log.warning("an alert is too old to be news", **self._which(alert), age_s=int(age_s))
            return True
        return await self._try(alert)

    async def _try(self, alert: BudgetAlert) -> bool:
        began, tried = self._monotonic(), 0
        while not self._stopping.is_set():
            tried += 1
            try:
                await self.channel.send(alert)
            except TryAgain as error:
                waited_s = self._monotonic() - began
                pause_s = self._patience.pause_s(tried, waited_s=waited_s, asked_s=error.after_s, jitter=self._jitter())
                if pause_s is None:
                    self._give_up(alert, f"{error}, {tried} times in {waited_s:.0f} s")
                    return True
                self._again(alert, str(error), pause_s)
                await self._wait(pause_s)
            except Refused as error:
                self._give_up(alert, str(error))
                return True
            except Exception as error:  # a fault of ours in one channel must not stop the alerts behind this one
                self._give_up(alert, type(error).__name__, exc_info=True)
                return True
            else:
                metrics.NOTIFICATIONS.labels(self.channel.name, "taken").inc()
                return True
        return False

    def _again(self, alert: BudgetAlert, reason: str, pause_s: float) -> None:
        metrics.NOTIFICATION_RETRIES.labels(self.channel.name).inc()
        log.warning("an alert is sent again", **self._which(alert), reason=reason, in_s=round(pause_s, 1))

    def _give_up(self, alert: BudgetAlert, reason: str, *, exc_info: bool = False) -> None:
        metrics.NOTIFICATIONS.labels(self.channel.name, "given_up").inc()
        log.error("an alert is given up", **self._which(alert), reason=reason, exc_info=exc_info)

    def _which(self, alert: BudgetAlert) -> dict[str, str]:
        return {"channel": self.channel.name, "alert_id": str(alert.alert_id)}

    async def _wait_or_stop(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
