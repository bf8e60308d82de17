"""A clock that a test turns by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)  # a Tuesday, away from every change of the clocks


@dataclass(slots=True)
class Clock:
    """Call it for the time; it stands still until it is turned."""

    at: datetime = NOON

    def __call__(self) -> datetime:
        return self.at

    def turn(self, **by: float) -> datetime:
        """Turn it on by a timedelta's arguments."""
        self.at += timedelta(**by)
        return self.at
