"""
The figures of a text, and whether each of them is known.

A number counts however it is written: 1,200 and 1200.00 are the same, 3k is 3000, "twelve" is 12. A percentage is only
known as a percentage, a date or time of day only as one. Names that hold digits (gpt-4o) are names, not figures.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, Final

_TEENS: Final = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty"
)
# In words one could invent a number as well as in digits. "One" is left out: it is a pronoun more often than a number.
_WORDS: Final = {
    **{word: Decimal(n) for n, word in enumerate(_TEENS.split(), 2)},
    **{
        word: Decimal(n * 10)
        for n, word in enumerate(["thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 3)
    },
    **{"hundred": Decimal(100), "thousand": Decimal(1000), "million": Decimal(10**6), "billion": Decimal(10**9)},
    **{"dozen": Decimal(12), "twice": Decimal(2), "double": Decimal(2), "triple": Decimal(3), "half": Decimal("0.5")},
}
_SCALES: Final = {
    **{"k": Decimal(1000), "thousand": Decimal(1000), "m": Decimal(10**6), "million": Decimal(10**6)},
    **{"b": Decimal(10**9), "bn": Decimal(10**9), "billion": Decimal(10**9)},
}
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_ORDINAL = r"(\d{1,2})(?:st|nd|rd|th)?"
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:\s?(?:Z|UTC|[+-]\d\d:\d\d))?)?|\b\d\d?:\d\d(?::\d\d)?\b"
)
_SPOKEN_DATE = re.compile(
    rf"\b{_MONTH} {_ORDINAL}\b(?:,? (\d{{4}}))?|\b{_ORDINAL} (?:of )?{_MONTH}(?:,? (\d{{4}}))?", re.IGNORECASE
)
_NUMBER = re.compile(
    r"((?:\d+(?:,\d{3})*)?\.\d+|\d+(?:,\d{3})*)(?:\s?(%|per ?cent\b|thousand\b|million\b|billion\b|bn\b|k\b|m\b|b\b))?",
    re.IGNORECASE,
)
_WORD = re.compile(rf"\b({'|'.join(_WORDS)})s?\b", re.IGNORECASE)
# Text in which the service speaks for itself; what stands in other strings is a name.
_PROSE: Final = {"reason", "detail", "message", "warnings", "description"}


@dataclass(slots=True)
class Known:
    """The figures that may be said; *zone* is where dates are told besides UTC."""

    zone: tzinfo = UTC
    numbers: set[Decimal] = field(default_factory=set)
    percents: set[Decimal] = field(default_factory=set)
    moments: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    def learn(self, content: Any, key: str = "") -> None:
        """Take in every figure and every name of a tool's result."""
        match content:
            case dict():
                for name, value in content.items():
                    self.learn(value, name)
                    # A scope's tags, and group keys: what stands before the colon is a name as well.
                    self.names.add(name)
            case list():
                for value in content:
                    self.learn(value, key)
            case bool() | None:
                pass
            case int() | float() | Decimal():
                self._number(Decimal(str(content)), key)
            case str():
                self._text(content, key)

    def _text(self, text: str, key: str) -> None:
        try:
            self._number(Decimal(text), key)
            return
        except InvalidOperation:
            pass
        try:
            self.moments.update(written(datetime.fromisoformat(text), self.zone))
            return
        except ValueError:
            pass
        self.names.add(text)
        if key in _PROSE:
            for figure in figures(text):
                getattr(self, figure.kind).add(figure.value)

    def _number(self, value: Decimal, key: str) -> None:
        if value.is_finite():
            (self.percents if "percent" in key else self.numbers).add(abs(value))

    def unknown(self, text: str) -> list[str]:
        """The figures of *text* that are not known, as they are written."""
        rest, lower = text, text.lower()
        here = [name for name in self.names if name.lower() in lower and any(figures(name))]
        for name in sorted(here, key=len, reverse=True):
            rest = re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", " ", rest, flags=re.IGNORECASE)
        return [figure.text for figure in figures(rest) if figure.value not in getattr(self, figure.kind)]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: `kind` is the field of Known in which it must be."""

    kind: str
    value: Any
    text: str


def figures(text: str) -> Iterator[Figure]:
    """Every figure of *text*, names among them."""
    # Digits of other scripts, superscripts and fractions become what they stand for.
    rest = unicodedata.normalize("NFKC", text)
    for pattern, read in ((_ISO, _moment), (_SPOKEN_DATE, _date), (_NUMBER, _number), (_WORD, _word)):
        for found in pattern.finditer(rest):
            yield read(found)
        rest = pattern.sub(" ", rest)
    yield from (Figure("numbers", char, char) for char in rest if char.isnumeric() and not char.isalpha())


def _moment(found: re.Match[str]) -> Figure:
    text = found.group()
    if len(text) <= 10:
        return Figure("moments", text, text)
    try:
        at = datetime.fromisoformat(text.removesuffix("UTC").rstrip())
    except ValueError:
        return Figure("moments", text, text)
    if at.tzinfo is not None:
        return Figure("moments", at.astimezone(UTC).isoformat(), text)
    # Not rounded to minutes: what is told with seconds must have them.
    return Figure("moments", text[:10] + " " + text[11:].removesuffix("UTC").rstrip(), text)


def _date(found: re.Match[str]) -> Figure:
    before, day_after, year, day_before, after, other_year = found.groups()
    month = _MONTHS.index((before or after).lower()) + 1
    day = f"{month:02}-{int(day_after or day_before):02}"
    full = year or other_year
    return Figure("moments", f"{full}-{day}" if full else day, found.group())


def _number(found: re.Match[str]) -> Figure:
    digits, unit = found.groups()
    value = Decimal(digits.replace(",", ""))
    if unit and unit[0] in "%pP":
        return Figure("percents", value, found.group())
    return Figure("numbers", value * _SCALES.get((unit or "").lower(), Decimal(1)), found.group())


def _word(found: re.Match[str]) -> Figure:
    return Figure("numbers", _WORDS[found.group(1).lower()], found.group())


def written(at: datetime, zone: tzinfo) -> Iterable[str]:
    """The ways in which a moment may be told: in UTC or in *zone*, its day, its time of day, or both."""
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    yield at.astimezone(UTC).isoformat()
    for local in (at.astimezone(UTC), at.astimezone(zone)):
        day = local.strftime("%Y-%m-%d")
        yield from (day, day[5:])
        for form in ("%H:%M", "%H:%M:%S"):
            yield from (local.strftime(form), f"{day} {local.strftime(form)}")
        yield local.replace(second=0, microsecond=0).astimezone(UTC).isoformat()
