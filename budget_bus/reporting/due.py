"""The loop of scheduled reports: each one that is due is made and handed over, and tried again until it is taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx2
import structlog
from pydantic import BaseModel

from budget_bus.errors import BudgetError
from budget_bus.http.reports import SummaryQuery, report
from budget_bus.notifiers.attempts import TryAgain
from budget_bus.notifiers.posting import http_client
from budget_bus.policy.report_times import next_due, span_before
from budget_bus.providers.prices import PriceBook
from budget_bus.reporting.delivery import Made, deliver
from budget_bus.settings import Settings
from budget_bus.store import report_schedules
from budget_bus.store.report_schedules import Schedule

_LOOK_EVERY_S = 15.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 60.0, 3600.0
_LONGEST_REASON = 500

log = structlog.get_logger()


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Reporter:
    """Makes and hands over reports; it reads the books as a gateway does."""

    settings: Settings
    pool: asyncpg.Pool
    http: httpx2.AsyncClient
    now: Callable[[], datetime] = _utc_now
    prices: PriceBook = field(default_factory=PriceBook)

    async def deliver_one(self) -> bool:
        """
        Hand over one report that is due; False if none is.

        The schedule's row is locked until it is noted what became of it, so of two bookkeepers one hands it over. If
        this process dies after the hand-over and before the note, it is handed over again.
        """
        async with report_schedules.due(self.pool, self.now()) as taken:
            if taken is None:
                return False
            connection, schedule = taken
            which = {"schedule": schedule.name, "due_at": schedule.due_at.isoformat()}
            try:
                made = await self._make(schedule)
                await deliver(schedule, made, self.settings, self.http, clock=lambda: self.now().timestamp())
            except (BudgetError, OSError, ValueError, asyncpg.PostgresError) as error:
                reason = (str(error) or type(error).__name__)[:_LONGEST_REASON]
                again_at = self.now() + _pause(schedule, error)
                await report_schedules.failed(connection, schedule.schedule_id, reason, again_at=again_at)
                log.warning("a report could not be delivered", **which, reason=reason, again_at=again_at.isoformat())
            else:
                after = next_due(schedule.every, schedule.at_time, schedule.timezone, schedule.due_at)
                await report_schedules.delivered(connection, schedule.schedule_id, next_due=after)
                log.info("a report is delivered", **which)
            return True

    async def _make(self, schedule: Schedule) -> Made:
        start, end = span_before(schedule.every, schedule.timezone, schedule.due_at)
        query = SummaryQuery.model_validate({**schedule.query, "timezone": schedule.timezone})
        answer = await report(self, query, start, end)
        content = answer.content
        if isinstance(content, BaseModel):
            content = content.model_dump_json().encode()
        assert isinstance(content, bytes)  # noqa: S101 - a summary is no stream
        return Made(content, answer.media_type, start, end)


async def keep_reporting(settings: Settings, pool: asyncpg.Pool, stopping: asyncio.Event) -> None:
    """Deliver what is due until *stopping*; what is due meanwhile is delivered at the next start."""
    async with http_client() as http:
        reporter = Reporter(settings, pool, http)
        while not stopping.is_set():
            began, more = time.monotonic(), False
            try:
                more = await reporter.deliver_one()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, BudgetError) as error:
                log.warning("reports are looked for again", reason=f"{type(error).__name__}: {error}")
            if not more:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), max(1.0, _LOOK_EVERY_S - (time.monotonic() - began)))


def _pause(schedule: Schedule, error: Exception) -> timedelta:
    longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(schedule.attempts, 10))
    asked = error.after_s if isinstance(error, TryAgain) else 0.0
    return timedelta(seconds=max(longest, min(asked, 86_400.0)))
