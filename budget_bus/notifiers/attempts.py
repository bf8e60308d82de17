"""When an attempt at handing over an alert is repeated, and when it is not: values in, values out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from budget_bus.errors import BudgetError, Retryable

# 408 Request Timeout, 425 Too Early (RFC 8470), 429 Too Many Requests (RFC 6585): the same request may succeed later.
_LATER = (408, 425, 429)
_WITH_RETRY_AFTER = (429, 503)


class TryAgain(Retryable):
    """The receiver did not take the alert, but may take the same one later; not before *after_s* seconds."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Refused(BudgetError):
    """The receiver will not take this alert, however often it is asked."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an alert is tried, and the pauses in between, which double from the first one to the longest."""

    give_up_after_s: float
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0

    def pause_s(self, tried: int, *, waited_s: float, asked_s: float, jitter: float) -> float | None:
        """
        Seconds until the next attempt after *tried* ones, or None to give up.

        *jitter* in [0, 1) takes away up to half, so that processes which failed together do not come back together.
        What the receiver asked for is waited in full, or not at all when it is longer than the patience left.
        """
        longest = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(tried - 1, 60))
        pause = max(longest * (1 - jitter / 2), asked_s)
        return pause if waited_s + pause <= self.give_up_after_s else None


def judge(status: int, retry_after: str | None, now: datetime) -> None:
    """
    What an HTTP answer means: nothing if the alert was taken.

    Raises:
        TryAgain: the receiver is busy or broken.
        Refused: it is not there, has moved, or does not want this.
    """
    if 200 <= status < 300:
        return
    if status in _LATER or status >= 500:
        asked_s = parse_retry_after(retry_after, now) if status in _WITH_RETRY_AFTER else 0.0
        raise TryAgain(f"the receiver answered {status}", asked_s)
    raise Refused(f"the receiver answered {status}")


def parse_retry_after(text: str | None, now: datetime) -> float:
    """The seconds that a Retry-After header asks for (RFC 9110, 10.2.3: a number or a date); 0 if it cannot be read."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())
