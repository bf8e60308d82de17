"""/api/reports/schedules: reports that are made again and again, and how delivering them goes."""

from __future__ import annotations

import re
from datetime import datetime, time
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from budget_bus.errors import FieldError, NotFound, Rejected
from budget_bus.events.fields import Name, wrong_field
from budget_bus.http.parts import Call
from budget_bus.http.query import Names, Page, Query, ZoneName, read_cursor, write_cursor
from budget_bus.http.route import Answer, Endpoint
from budget_bus.http.usage import group_names
from budget_bus.policy.report_times import next_due
from budget_bus.policy.windows import Period
from budget_bus.settings import Settings
from budget_bus.store import report_schedules
from budget_bus.store.report_schedules import Schedule, Wanted
from budget_bus.store.reports import GROUPS

DATE: Final = "{date}"
"""In the name of a file: the first day of what the report is about."""

_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,149}")
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
# What the steps of a report are, if nothing is said.
_STEPS: Final = {"daily": "hourly", "weekly": "daily", "monthly": "daily"}


def _file(name: str) -> str:
    if not _FILE.fullmatch(name.replace(DATE, "2026-01-31")):
        raise ValueError(
            "must be a plain file name of letters, digits, dots, dashes and underscores, such as usage-{date}.html"
        )
    return name


def _webhook(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable():
        raise ValueError("must be an address such as https://example.org/reports")
    return text


def _clock(text: str) -> str:
    if not _CLOCK.fullmatch(text):
        raise ValueError("must be a time of day such as 08:00")
    return text


class ScheduleBody(BaseModel):
    """
    A report of each whole day, week (from Monday) or month, made in the next one: every day, on Monday or on the 1st,
    `at` by the clock of `timezone`. It is `GET /api/reports/summary` of that span, with the same filters; its steps are
    `period` (of days hourly, else daily). It goes to `file`, a name in BUDGET_REPORTS_DIR in which {date} is the
    span's first day, or to `webhook`, signed as alerts are.
    """

    model_config = ConfigDict(extra="forbid")

    name: Name
    every: Literal["daily", "weekly", "monthly"]
    at: Annotated[str, AfterValidator(_clock)] = "06:00"
    timezone: ZoneName | None = None
    format: Literal["json", "csv", "html", "xlsx"] = "html"
    period: Literal["hourly", "daily", "weekly", "monthly"] | None = None
    group_by: Names = Field(default_factory=list)
    component: Names = Field(default_factory=list)
    provider: Names = Field(default_factory=list)
    model: Names = Field(default_factory=list)
    tier: Names = Field(default_factory=list)
    task_type: Names = Field(default_factory=list)
    user: Names = Field(default_factory=list)
    context_id: Names = Field(default_factory=list)
    file: Annotated[str, AfterValidator(_file)] | None = None
    webhook: Annotated[str, Field(max_length=2000), AfterValidator(_webhook)] | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.file is None) == (self.webhook is None):
            raise wrong_field("file", "name a file or a webhook, one of them")
        return self


class ScheduleView(BaseModel):
    """
    A schedule and how it goes. `due_at` is the next report, or the one that failed `attempts` times, the last time for
    `last_error`, and is tried again at `next_attempt_at`; `last_delivered_due_at` is the last one that was delivered.
    Of a webhook only the host is shown: whoever knows the address may write to it.
    """

    schedule_id: UUID
    name: str
    every: str
    at: str
    timezone: str
    query: dict[str, Any]
    file: str | None
    webhook_host: str | None
    due_at: datetime
    next_attempt_at: datetime
    attempts: int
    last_error: str | None
    last_delivered_due_at: datetime | None


class ScheduleList(BaseModel):
    """Schedules, by name."""

    items: list[ScheduleView]
    next_cursor: str | None


async def list_schedules(call: Call[Page, None]) -> Answer:
    """Scheduled reports, a page at a time."""
    query = call.query
    found = await report_schedules.all_schedules(call.parts.pool)
    start = max(0, read_cursor(query.cursor, int)) if query.cursor else 0
    shown = found[start : start + query.page_size]
    cursor = write_cursor(start + len(shown)) if start + len(shown) < len(found) else None
    return Answer(ScheduleList(items=[_view(one) for one in shown], next_cursor=cursor))


async def add_schedule(call: Call[Query, ScheduleBody]) -> Answer:
    """
    Have a report made again and again.

    Raises:
        Rejected: names the field and the fix.
        Conflict: there are too many.
    """
    body, parts = call.body, call.parts
    _check_target(body, parts.settings)
    group_by = group_names(body.group_by, GROUPS)
    query = {
        "format": body.format,
        "period": body.period or _STEPS[body.every],
        "group_by": group_by,
        **{name: getattr(body, name) for name in GROUPS if getattr(body, name)},
    }
    wanted = Wanted(
        name=body.name,
        every=Period(body.every),
        at_time=time.fromisoformat(body.at),
        timezone=body.timezone or parts.settings.timezone,
        query=query,
        file_name=body.file,
        webhook=body.webhook,
    )
    due_at = next_due(wanted.every, wanted.at_time, wanted.timezone, parts.now())
    return Answer(_view(await report_schedules.add(parts.pool, wanted, due_at=due_at, actor=call.actor)), status=201)


async def remove_schedule(call: Call[Query, None]) -> Answer:
    """
    Have no more of these reports.

    Raises:
        NotFound: there is no such schedule.
    """
    text = call.path["schedule_id"]
    try:
        schedule_id = UUID(text)
    except ValueError:
        raise NotFound(
            f"no schedule {text!r}; a schedule_id is a UUID, as GET /api/reports/schedules lists it"
        ) from None
    await report_schedules.remove(call.parts.pool, schedule_id)
    return Answer(status=204)


def _check_target(body: ScheduleBody, settings: Settings) -> None:
    if body.file is not None and settings.reports_dir is None:
        message = "needs BUDGET_REPORTS_DIR, the directory of reports, to be set for the gateway and the bookkeeper"
        raise Rejected("invalid body", [FieldError("file", message)])
    if body.webhook is not None and settings.reports_webhook_secret is None:
        message = (
            "needs BUDGET_REPORTS_WEBHOOK_SECRET, which signs reports, to be set for the gateway and the bookkeeper"
        )
        raise Rejected("invalid body", [FieldError("webhook", message)])


def _view(one: Schedule) -> ScheduleView:
    return ScheduleView(
        schedule_id=one.schedule_id,
        name=one.name,
        every=one.every.value,
        at=one.at_time.strftime("%H:%M"),
        timezone=one.timezone,
        query=dict(one.query),
        file=one.file_name,
        webhook_host=urlsplit(one.webhook).hostname if one.webhook else None,
        due_at=one.due_at,
        next_attempt_at=one.attempt_at,
        attempts=one.attempts,
        last_error=one.last_error,
        last_delivered_due_at=one.last_due_at,
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/reports/schedules",
        summary="Scheduled reports",
        handle=list_schedules,
        query=Page,
        answers={200: ScheduleList},
        tags=("reading",),
    ),
    Endpoint(
        method="POST",
        path="/api/reports/schedules",
        summary="Schedule a report",
        handle=add_schedule,
        body=ScheduleBody,
        answers={201: ScheduleView},
        tags=("administering",),
    ),
    Endpoint(
        method="DELETE",
        path="/api/reports/schedules/{schedule_id}",
        summary="Remove a scheduled report",
        handle=remove_schedule,
        answers={204: None},
        tags=("administering",),
    ),
)
