"""A period in words -> `[start, end)`. The table is the grammar; what is not in it is no period."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from budget_bus.policy.windows import Period, window_of

_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)  # nothing is recorded for earlier times
_LONGEST_DAYS: Final = 3660
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_UNITS: Final = {"hour": Period.HOURLY, "day": Period.DAILY, "week": Period.WEEKLY, "month": Period.MONTHLY}
_ROLLING: Final = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
}


@dataclass(frozen=True, slots=True)
class Span:
    """
    A span of time as the question names it. *number* is the figure in *label*, which has a place for it. *before* is
    the like span before it, that it may be compared with.
    """

    label: str
    start: datetime
    end: datetime
    number: int | None = None
    before: tuple[str, datetime, datetime] | None = None


@dataclass(frozen=True, slots=True)
class Now:
    """The present in the service's time zone."""

    at: datetime
    timezone: str

    def window(self, period: Period, *, ago: int = 0) -> tuple[datetime, datetime]:
        """The bounds of the window that holds the present, or of the one so many before."""
        window = window_of(period, self.timezone, self.at)
        for _ in range(ago):
            window = window_of(period, self.timezone, window.start - timedelta(seconds=1))
        assert window.end is not None  # noqa: S101 - only `total` has no end
        return window.start, window.end

    def day(self, day: date) -> tuple[datetime, datetime]:
        """The bounds of a day."""
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(self.timezone))
        window = window_of(Period.DAILY, self.timezone, noon)
        assert window.end is not None  # noqa: S101
        return window.start, window.end

    @property
    def today(self) -> date:
        """The date here."""
        return self.at.astimezone(ZoneInfo(self.timezone)).date()


def today(now: Now) -> Span:
    """What is meant where nothing is said."""
    return _window(now, Period.DAILY, "today", "yesterday")


def _window(now: Now, period: Period, label: str, before: str, ago: int = 0) -> Span:
    start, end = now.window(period, ago=ago)
    return Span(label, start, end, before=(before, *now.window(period, ago=ago + 1)))


def _this(now: Now, found: re.Match[str]) -> Span:
    unit = found["unit"]
    if unit == "day":
        return today(now)
    return _window(now, _UNITS[unit], f"this {unit}", f"last {unit}")


def _last(now: Now, found: re.Match[str]) -> Span | None:
    unit = found["unit"]
    if unit in ("hour", "day"):
        return _rolling(now, unit, 1)
    return _window(now, _UNITS[unit], f"last {unit}", f"the {unit} before", ago=1)


def _rolling(now: Now, unit: str, count: int) -> Span | None:
    length = _ROLLING[unit] * count
    if not timedelta() < length <= timedelta(days=_LONGEST_DAYS):
        return None
    start = now.at - length
    label = f"in the last {{}} {unit}{'s' if count > 1 else ''}"
    return Span(label, start, now.at, count, before=("in the same time before that", start - length, start))


def _last_n(now: Now, found: re.Match[str]) -> Span | None:
    return _rolling(now, found["unit"], int(found["n"][:6]))


def _on(now: Now, day: date) -> Span:
    return Span("on that day", *now.day(day), before=("the day before", *now.day(day - timedelta(days=1))))


def _iso(now: Now, found: re.Match[str]) -> Span | None:
    try:
        first = date.fromisoformat(found["a"])
        last = date.fromisoformat(found["b"]) if found["b"] else None
    except ValueError:
        return None
    if not 2000 <= first.year <= 2190:
        return None
    if last is None:
        return _since(now, first) if found["since"] else _on(now, first)
    if not first <= last or last.year > 2190:
        return None
    return Span("in that time", now.day(first)[0], now.day(last)[1])


def _since(now: Now, first: date) -> Span | None:
    start = now.day(first)[0]
    return Span("since then", start, now.at) if start < now.at else None


def _weekday(now: Now, found: re.Match[str]) -> Span | None:
    # The last one that is over, today's name being a week ago.
    back = (now.today.weekday() - _WEEKDAYS.index(found["weekday"])) % 7 or 7
    day = now.today - timedelta(days=back)
    return _since(now, day) if found["since"] else _on(now, day)


def _day_of_month(now: Now, found: re.Match[str]) -> Span | None:
    month = _month_number(found["m1"] or found["m2"])
    number, year = int(found["d1"] or found["d2"]), int(found["y1"] or found["y2"] or now.today.year)
    try:
        day = date(year, month, number)
        if not (found["y1"] or found["y2"]) and day > now.today:
            day = day.replace(year=year - 1)
    except ValueError:
        return None
    return _on(now, day) if 2000 <= day.year <= 2190 else None


def _month_number(text: str) -> int:
    return next(n for n, name in enumerate(_MONTHS, 1) if name.startswith(text[:3]))


def _month(now: Now, found: re.Match[str]) -> Span | None:
    number = _month_number(found["month"])
    year = int(found["year"] or now.today.year)
    if not found["year"] and number > now.today.month:
        year -= 1
    if not 2000 <= year <= 2190:
        return None
    middle = Now(datetime(year, number, 15, tzinfo=UTC), now.timezone)
    return Span(
        "in that month",
        *middle.window(Period.MONTHLY),
        before=("the month before", *middle.window(Period.MONTHLY, ago=1)),
    )


def _year(now: Now, _: re.Match[str]) -> Span:
    return Span("this year", now.day(date(now.today.year, 1, 1))[0], now.at)


def _ever(now: Now, _: re.Match[str]) -> Span:
    return Span("since the beginning", _BEGINNING, now.at)


_M = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?"
)
_U = "(?P<unit>minute|hour|day|week|month)s?"
_DAY = r"\d{4}-\d\d-\d\d"
_Read = Callable[[Now, re.Match[str]], Span | None]
# In this order: the longer phrase before its parts.
PHRASES: Final[Sequence[tuple[re.Pattern[str], _Read]]] = tuple(
    (re.compile(rf"\b(?:{pattern})\b"), read)
    for pattern, read in (
        (
            rf"(?P<since>since )?(?:on |from |between )?(?P<a>{_DAY})(?: (?:to|until|till|and|through) (?P<b>{_DAY}))?",
            _iso,
        ),
        (r"(?:the )?day before yesterday", lambda now, _: _on(now, now.today - timedelta(days=2))),
        (r"yesterday'?s?", lambda now, _: _window(now, Period.DAILY, "yesterday", "the day before", ago=1)),
        (r"today'?s?|tonight|so far", lambda now, _: today(now)),
        (rf"(?:in |over |during |for |within )?(?:the )?(?:last|past|previous) (?P<n>\d+) {_U}", _last_n),
        (
            r"(?:in |over |during )?(?:the )?past (?P<unit>hour|day|week|month)",
            lambda now, m: _rolling(now, m["unit"], 1),
        ),
        (r"(?:in |during |of )?(?:the )?(?:this|current|present) (?P<unit>hour|day|week|month)(?:'s)?", _this),
        (r"(?:in |during |of )?(?:the )?(?:last|previous) (?P<unit>hour|day|week|month)(?:'s)?", _last),
        (r"(?:this|the current) year|year to date", _year),
        (r"ever|all time|in total|since the (?:beginning|start)|overall", _ever),
        (
            rf"(?:on )?(?:the )?(?:(?P<m1>{_M})\.? (?P<d1>\d\d?)(?:st|nd|rd|th)?(?:,? (?P<y1>\d{{4}}))?"
            rf"|(?P<d2>\d\d?)(?:st|nd|rd|th)? (?:of )?(?P<m2>{_M})(?:,? (?P<y2>\d{{4}}))?)",
            _day_of_month,
        ),
        (rf"(?:in|during|for|of) (?P<month>{_M})(?: (?P<year>\d{{4}}))?", _month),
        (rf"(?P<since>since )?(?:on |last )?(?P<weekday>{'|'.join(_WEEKDAYS)})'?s?", _weekday),
    )
)
# A budget's period, as in "the daily budget"; a span only if nothing else is.
ADJECTIVES: Final = {
    "hourly": "hourly", "daily": "daily", "weekly": "weekly", "monthly": "monthly", "per day": "daily",
    "per week": "weekly", "per month": "monthly", "a day": "daily", "a month": "monthly",
}  # fmt: skip


def find_spans(text: str, now: Now) -> tuple[list[Span], str]:
    """The periods that *text* (lower case) names, in their order, and what is left of it without them."""
    found: list[tuple[int, Span]] = []
    for pattern, read in PHRASES:
        for match in pattern.finditer(text):
            span = read(now, match)
            if span is not None:
                found.append((match.start(), span))
                text = text[: match.start()] + " " * len(match.group()) + text[match.end() :]
    return [span for _, span in sorted(found, key=lambda one: one[0])], text
