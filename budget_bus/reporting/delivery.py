"""Hands a report over: to a file of the reports' directory, or to a webhook, signed as alerts are."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
from pydantic_core import to_json

from budget_bus.errors import ConfigError
from budget_bus.http.report_schedules import DATE
from budget_bus.notifiers import signature
from budget_bus.notifiers.posting import post
from budget_bus.settings import Settings
from budget_bus.store.report_schedules import Schedule


@dataclass(frozen=True, slots=True)
class Made:
    """A report that is made: of `[start, end)`."""

    content: bytes
    media_type: str
    start: datetime
    end: datetime


async def deliver(
    schedule: Schedule, made: Made, settings: Settings, http: httpx2.AsyncClient, *, clock: Callable[[], float]
) -> None:
    """
    Hand *made* over once. Doing it again changes nothing for the receiver: the file has the same name, the message the
    same `webhook-id`.

    Raises:
        ConfigError: a setting that this needs is gone.
        OSError, TryAgain, Refused: it was not taken.
    """
    if schedule.file_name is not None:
        await asyncio.to_thread(_write, schedule, made, settings.reports_dir)
        return
    secret = settings.reports_webhook_secret
    if secret is None:
        raise ConfigError("BUDGET_REPORTS_WEBHOOK_SECRET is not set where the bookkeeper runs")
    body = _message(schedule, made)
    message_id = f"{schedule.schedule_id}.{int(schedule.due_at.timestamp())}"
    signed = signature.headers(secret.get_secret_value(), message_id, int(clock()), body)
    await post(http, schedule.webhook or "", body, signed)


def _write(schedule: Schedule, made: Made, folder: Path | None) -> None:
    if folder is None:
        raise ConfigError("BUDGET_REPORTS_DIR is not set where the bookkeeper runs")
    day = made.start.astimezone(ZoneInfo(schedule.timezone)).date()
    path = folder / (schedule.file_name or "").replace(DATE, day.isoformat())
    # What was kept is checked again, so that no other way into the table leads out of the directory.
    if path.parent != folder or path.name in ("", ".", ".."):
        raise ConfigError(f"{schedule.file_name!r} is no name of a file in BUDGET_REPORTS_DIR")
    folder.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(prefix=".report.", suffix=".part", dir=folder)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(made.content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _message(schedule: Schedule, made: Made) -> bytes:
    """In the shape of alerts: `type`, `timestamp`, `data`; what is no text is base64."""
    data = {
        "schedule_id": schedule.schedule_id,
        "name": schedule.name,
        "window_start": made.start,
        "window_end": made.end,
        "format": schedule.query["format"],
        "media_type": made.media_type,
        "report": _report(made, schedule.query["format"]),
    }
    return to_json({"type": "budget.report", "timestamp": schedule.due_at, "data": data})


def _report(made: Made, form: str) -> Any:
    if form == "json":
        return json.loads(made.content)
    return base64.b64encode(made.content).decode() if form == "xlsx" else made.content.decode()
