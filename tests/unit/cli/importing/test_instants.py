"""Time stamps are read to the microsecond, by cutting, in the zone they are in."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.cli.importing.instants import parse_instant

UTC_ZONE = ZoneInfo("UTC")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("2023-11-16 18:17:03.9799600", (18, 17, 3, 979960), id="seven digits, the last one 0"),
        pytest.param("2023-11-16 18:17:03.9999999", (18, 17, 3, 999999), id="seven digits are cut, not rounded up"),
        pytest.param("2023-11-16T18:17:03.123456789Z", (18, 17, 3, 123456), id="nanoseconds are cut"),
        pytest.param("2023-11-16T20:17:03+02:00", (18, 17, 3, 0), id="with an offset"),
        pytest.param("2023-11-16 18:17:03 UTC", (18, 17, 3, 0), id="with the word UTC"),
        pytest.param(" 2023-11-16T18:17 ", (18, 17, 0, 0), id="without seconds, with blanks around"),
        pytest.param("1700158623", (18, 17, 3, 0), id="seconds since 1970"),
        pytest.param("1700158623.9799600", (18, 17, 3, 979960), id="seconds with a fraction"),
        pytest.param("1700158623979", (18, 17, 3, 979000), id="milliseconds"),
        pytest.param("1700158623979960", (18, 17, 3, 979960), id="microseconds"),
        pytest.param("1700158623979960123", (18, 17, 3, 979960), id="nanoseconds"),
        pytest.param(1700158623, (18, 17, 3, 0), id="a JSON number"),
    ],
)
def test_read(text: object, expected: tuple[int, int, int, int]) -> None:
    assert parse_instant(text, UTC_ZONE) == datetime(2023, 11, 16, *expected, tzinfo=UTC)


def test_a_time_without_a_zone_is_in_the_one_that_is_given() -> None:
    assert parse_instant("2026-07-01 12:00:00", ZoneInfo("Europe/Berlin")) == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert parse_instant("2026-01-01 12:00:00", ZoneInfo("Europe/Berlin")) == datetime(2026, 1, 1, 11, tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "", "16.11.2023", "12:00", "1e9", "-1700158623", "nan", None, True, {}])
def test_what_is_no_time_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_instant(text, UTC_ZONE)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001 - naive on purpose
def test_every_microsecond_survives(at: datetime) -> None:
    aware = at.replace(tzinfo=UTC)
    micros = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // (aware.resolution)
    assert parse_instant(f"{at.isoformat(sep=' ', timespec='microseconds')}7", UTC_ZONE) == aware
    assert parse_instant(f"{micros // 10**6}.{micros % 10**6:06d}9", UTC_ZONE) == aware
