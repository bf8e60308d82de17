"""A time stamp as it was written -> an instant, to the microsecond, by cutting off what is finer."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"\d{9,19}(\.\d+)?")
_ZONE_NAME = re.compile(r"\s*(UTC|GMT)$", re.IGNORECASE)
# Numbers below these are seconds, milliseconds and microseconds since 1970; larger ones are nanoseconds.
_SCALES = ((10**11, 1_000_000), (10**14, 1000), (10**17, 1))


def parse_instant(value: Any, zone: ZoneInfo) -> datetime:
    """
    Read an ISO 8601 time or a number of (milli-, micro-, nano-)seconds since 1970; one without a zone is in *zone*.

    Raises:
        ValueError: it is neither; the text says what would be.
    """
    text = str(value).strip()
    if _NUMBER.fullmatch(text):
        return _since_epoch(text)
    try:
        # fromisoformat takes any number of digits of a second and cuts after the sixth.
        at = datetime.fromisoformat(_ZONE_NAME.sub("+00:00", text))
    except ValueError:
        raise ValueError("is not a time; write 2026-11-23T18:00:00Z, or seconds since 1970") from None
    at = at if at.tzinfo else at.replace(tzinfo=zone)
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


def _since_epoch(text: str) -> datetime:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError("is not a time") from None
    whole = int(number)
    for limit, micros in _SCALES:
        if whole < limit:
            return _EPOCH + timedelta(microseconds=int(number * micros))
    return _EPOCH + timedelta(microseconds=whole // 1000)
