"""Bodies and query strings -> values, or an error that names the field and the fix."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.datastructures import QueryParams

from budget_bus.errors import Rejected
from budget_bus.events.usage import UsageRecorded
from budget_bus.http.check import CheckBody
from budget_bus.http.holds import ExtendBody
from budget_bus.http.limit_body import LimitBody, LimitPatch, read_exact
from budget_bus.http.limit_spec import patched, spec_of
from budget_bus.http.limits import LimitQuery
from budget_bus.http.problems import NotJson
from budget_bus.http.query import place, read_cursor, read_query, write_cursor
from budget_bus.http.record import read_batch
from budget_bus.http.usage import UsageQuery
from budget_bus.policy.budget import LimitSpec, Policy
from budget_bus.settings import Settings

EVENT = {"component": "c", "provider": "p", "model": "m", "input_tokens": 1, "output_tokens": 2}
SETTINGS = Settings.model_construct(default_currency="USD", timezone="Europe/Berlin")


def spec(**fields: Any) -> LimitSpec:
    raw = json.dumps({"period": "daily", "limit": 10, **fields}).encode()
    return spec_of(read_exact(LimitBody, raw), SETTINGS)


@pytest.mark.parametrize(
    ("body", "prefix", "count"),
    [
        (EVENT, "", 1),
        ([EVENT, EVENT], "{}.", 2),
        ([], "{}.", 0),
        ({"events": [EVENT] * 1000}, "events.{}.", 1000),
    ],
    ids=["one event", "a list", "an empty list", "a named list of a thousand"],
)
def test_the_three_shapes_of_a_record(body: Any, prefix: str, count: int) -> None:
    batch = read_batch(json.dumps(body).encode())
    assert (batch.prefix, len(batch.events)) == (prefix, count)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**EVENT, "model": ""}, "model"),
        ([EVENT, {**EVENT, "input_tokens": -1}], "1.input_tokens"),
        ({"events": [EVENT, EVENT, {**EVENT, "cache_read_input_tokens": 2}]}, "events.2.cache_read_input_tokens"),
        ({"events": EVENT}, "events"),
        ([EVENT] * 1001, ""),
        (5, ""),
    ],
)
def test_a_bad_event_is_named_by_its_path(body: Any, field: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_batch(json.dumps(body).encode())
    assert caught.value.errors[0].field == field


def test_what_is_forwarded_is_what_the_caller_said() -> None:
    (event,) = read_batch(json.dumps(EVENT).encode()).events
    assert json.loads(event.model_dump_json(exclude_unset=True)) == EVENT
    assert UsageRecorded.model_validate_json(event.model_dump_json(exclude_unset=True)).digest() == event.digest()


def test_a_check_without_an_id_is_given_one() -> None:
    question = {"component": "c", "provider": "p", "model": "m", "estimated_tokens": 1}
    first, second = (CheckBody.model_validate_json(json.dumps(question)) for _ in range(2))
    assert first.request_id != second.request_id
    assert CheckBody.model_validate_json(json.dumps({**question, "request_id": None})).request_id


@pytest.mark.parametrize(
    ("written", "unit", "kept"),
    [
        ("10", "cost", 10_000_000_000),
        ('"0.000000001"', "cost", 1),
        ("0.1", "cost", 100_000_000),
        ("1234567890.123456789", "cost", 1_234_567_890_123_456_789),
        ("1e3", "tokens", 1000),
        ('"25"', "requests", 25),
        ("0", "cost", 0),
    ],
)
def test_a_limit_is_kept_as_it_was_written(written: str, unit: str, kept: int) -> None:
    raw = f'{{"period": "daily", "limit": {written}, "unit": "{unit}"}}'.encode()
    assert spec_of(read_exact(LimitBody, raw), SETTINGS).limit == kept


def test_a_limit_takes_its_defaults_from_the_settings() -> None:
    said = spec(scope={"component": "rhetor"})
    assert (said.currency, said.timezone, said.policy) == ("USD", "Europe/Berlin", None)
    assert (said.name, said.thresholds) == ("daily component=rhetor", (50, 80, 100))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"period": "yearly"}, "period"),
        ({"limit": "ten"}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": "1e999999"}, "limit"),
        ({"limit": "0.0000000001"}, "limit"),
        ({"limit": "NaN"}, "limit"),
        ({"limit": 1.5, "unit": "tokens"}, "limit"),
        ({"unit": "euros"}, "unit"),
        ({"unit": "tokens", "currency": "USD"}, "currency"),
        ({"currency": "usd"}, "currency"),
        ({"policy": "STOP"}, "policy"),
        ({"polcy": "WARN"}, "polcy"),
        ({"thresholds": [0]}, "thresholds.0"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "../etc/passwd"}, "timezone"),
        ({"week_start": 7}, "week_start"),
        ({"month_anchor": 0}, "month_anchor"),
        ({"ceiling_percent": 99}, "ceiling_percent"),
        ({"scope": {"planet": "x"}}, "scope.planet"),
        ({"scope": {"component": []}}, "scope.component"),
        ({"name": "a\u0000b"}, "name"),
    ],
    ids=str,
)
def test_a_wrong_field_of_a_limit_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected) as caught:
        spec(**fields)
    assert caught.value.errors[0].field == field


@pytest.mark.parametrize("raw", [b"", b"{", b'{"limit": NaN}', b"[" * 100_000, b'{"name": "\\ud800"}', b"\xff"])
def test_what_is_not_json_is_told_apart(raw: bytes) -> None:
    with pytest.raises(NotJson):
        read_exact(LimitBody, raw)


def test_a_patch_changes_what_it_names_and_null_gives_the_policy_back() -> None:
    before = spec(policy="hard_limit", ceiling_percent=120)
    after = patched(before, read_exact(LimitPatch, b'{"limit": 5.5, "policy": null, "thresholds": [90, 10, 90]}'))
    assert (after.limit, after.policy, after.thresholds) == (5_500_000_000, None, (10, 90))
    assert (after.ceiling_percent, after.name) == (120, before.name)
    assert before.policy is Policy.HARD_LIMIT
    with pytest.raises(Rejected, match="limit: must not be null"):
        patched(before, read_exact(LimitPatch, b'{"limit": null}'))
    with pytest.raises(Rejected, match="scope"):
        read_exact(LimitPatch, b'{"scope": {}}')


def test_a_query_takes_lists_and_single_values() -> None:
    query = read_query(UsageQuery, QueryParams("component=a&component=b&start=2026-01-01T01:00:00%2B01:00"))
    assert query.component == ["a", "b"]
    assert query.start == datetime(2026, 1, 1, tzinfo=UTC)
    assert read_query(LimitQuery, QueryParams("period=daily&page_size=1000")).page_size == 1000


@pytest.mark.parametrize(
    ("query", "field", "fix"),
    [
        ("start=yesterday", "start", "RFC 3339"),
        ("start=2026-01-01", "start", "RFC 3339"),
        ("start=2026-01-01T00:00:00+01:00", "start", "%2B"),
        ("end=1999-01-01T00:00:00Z", "end", "2000-01-01"),
        ("end=9999-12-31T23:59:59Z", "end", "2200-01-01"),
        ("timezone=Mars", "timezone", "Europe/Berlin"),
        ("component=", "component", "at least 1"),
        ("compnent=x", "compnent", "known are"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_fix(query: str, field: str, fix: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_query(UsageQuery, QueryParams(query))
    (error,) = caught.value.errors
    assert error.field == field
    assert fix in error.message


def test_a_cursor_comes_back_and_a_made_up_one_is_refused() -> None:
    from uuid import UUID

    at, identity = datetime(2026, 1, 1, 1, 2, 3, 456, tzinfo=UTC), UUID(int=7)
    assert read_cursor(write_cursor(at, identity), place) == (at, identity)
    for made_up in (
        "",
        "x",
        "bnVsbA",
        "W10",
        "é",
        write_cursor("2026-01-01T00:00:00", str(identity)),
        write_cursor(1, 2),
    ):
        with pytest.raises(Rejected, match="next_cursor"):
            read_cursor(made_up, place)


@pytest.mark.parametrize("body", [{}, {"ttl_s": 5, "expires_at": "2026-01-01T00:00:00Z"}, {"ttl_s": 0}])
def test_a_hold_is_extended_by_exactly_one_measure(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ttl_s|exactly one"):
        ExtendBody.model_validate_json(json.dumps(body))
