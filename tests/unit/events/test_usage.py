"""usage.recorded: what is refused and by which name; what counts as the same event."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.errors import Rejected
from budget_bus.events.decode import decode
from budget_bus.events.usage import UsageRecorded

BASE: dict[str, Any] = {
    "component": "rhetor",
    "provider": "openai",
    "model": "gpt-5",
    "input_tokens": 100,
    "output_tokens": 50,
}
TOKEN_FIELDS = [name for name in UsageRecorded.model_fields if name.endswith("_tokens")]
NAME_FIELDS = ["component", "provider", "model", "task_type", "context_id", "user", "operation_id"]


def read(**change: Any) -> UsageRecorded:
    return decode(UsageRecorded, json.dumps({**BASE, **change}).encode())


def refused_fields(**change: Any) -> list[str]:
    with pytest.raises(Rejected) as refused:
        read(**change)
    return [error.field for error in refused.value.errors]


@pytest.mark.parametrize("field", NAME_FIELDS)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a\x00b", id="NUL, which PostgreSQL cannot hold"),
        pytest.param("a\nb", id="a line break inside"),
        pytest.param("a\x7fb", id="DEL"),
        pytest.param("a\x9bb", id="a C1 control character"),
        pytest.param("x" * 201, id="201 characters"),
        pytest.param("", id="nothing"),
        pytest.param(" \t ", id="only blanks"),
        pytest.param(7, id="a number"),
    ],
)
def test_a_bad_name_is_refused(field: str, name: Any) -> None:
    assert refused_fields(**{field: name}) == [field]


@pytest.mark.parametrize("field", ["component", "provider", "model"])
def test_a_name_that_every_event_needs_is_missed(field: str) -> None:
    event = {key: value for key, value in BASE.items() if key != field}
    with pytest.raises(Rejected) as refused:
        decode(UsageRecorded, json.dumps(event).encode())
    assert [(error.field, error.message) for error in refused.value.errors] == [(field, "is required")]


def test_a_name_of_200_characters_in_any_script_is_taken() -> None:
    assert read(component="界" * 200).component == "界" * 200


def test_blanks_around_a_name_are_dropped() -> None:
    assert read(component="  rhetor\n").component == "rhetor"


@pytest.mark.parametrize("where", ["component", "input_text"])
def test_a_lone_surrogate_is_refused_before_utf8_can_fail_on_it(where: str) -> None:
    raw = json.dumps({**BASE, where: "a\ud800b"}).encode()
    with pytest.raises(Rejected, match="not valid JSON"):
        decode(UsageRecorded, raw)


@pytest.mark.parametrize("field", TOKEN_FIELDS)
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(-1, id="negative"),
        pytest.param(1.5, id="not whole"),
        pytest.param(True, id="a truth value"),
        pytest.param("1", id="text"),
        pytest.param(1e30, id="a float beyond any count"),
        pytest.param(1_000_000_001, id="one above the bound"),
        pytest.param(10**19, id="beyond 64 bits"),
        pytest.param([1], id="a list"),
    ],
)
def test_a_bad_count_is_refused(field: str, count: Any) -> None:
    assert refused_fields(**{field: count}) == [field]


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_count_that_is_no_number_is_refused(literal: str) -> None:
    raw = json.dumps(BASE).replace('"input_tokens": 100', f'"input_tokens": {literal}').encode()
    with pytest.raises(Rejected) as refused:
        decode(UsageRecorded, raw)
    assert [error.field for error in refused.value.errors] == ["input_tokens"]


def test_a_whole_number_written_as_a_float_is_taken() -> None:
    assert read(input_tokens=100.0).input_tokens == 100


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"cache_read_input_tokens": 101}, "cache_read_input_tokens", id="read from cache above input"),
        pytest.param(
            {"cache_read_input_tokens": 60, "cache_creation_input_tokens": 41},
            "cache_read_input_tokens",
            id="read and written together above input",
        ),
        pytest.param({"input_audio_tokens": 101}, "input_audio_tokens", id="audio above input"),
        pytest.param({"reasoning_output_tokens": 51}, "reasoning_output_tokens", id="reasoning above output"),
        pytest.param(
            {"reasoning_output_tokens": 30, "output_audio_tokens": 21},
            "reasoning_output_tokens",
            id="reasoning and audio together above output",
        ),
        pytest.param({"input_tokens": None}, "input_tokens", id="no input at all"),
        pytest.param({"output_tokens": None}, "output_tokens", id="no output at all"),
        pytest.param({"output_tokens": None, "input_text": "hi"}, "output_tokens", id="a text only for the other side"),
    ],
)
def test_counts_that_cannot_be_are_refused(change: dict[str, Any], field: str) -> None:
    assert refused_fields(**change) == [field]


def test_subsets_may_fill_their_whole() -> None:
    event = read(cache_read_input_tokens=60, cache_creation_input_tokens=40, reasoning_output_tokens=50)
    assert (event.input_tokens, event.output_tokens) == (100, 50)


def test_texts_stand_in_for_counts() -> None:
    event = read(input_tokens=None, output_tokens=None, input_text="hi", output_text="")
    assert (event.input_tokens, event.output_text) == (None, "")


@pytest.mark.parametrize(
    "at",
    [
        pytest.param("2026-01-01T00:00:00", id="naive"),
        pytest.param("1999-12-31T23:59:59Z", id="before 2000"),
        pytest.param("2000-01-01T00:00:00+10:00", id="before 2000 once in UTC"),
        pytest.param("0001-01-01T00:00:00+14:00", id="before year 1 in UTC"),
        pytest.param("9999-12-31T23:59:59-01:00", id="after year 9999 in UTC"),
        pytest.param("1767225600", id="digits as text"),
        pytest.param("2026-01-01", id="a date"),
        pytest.param(1_767_225_600, id="a number"),
        pytest.param("yesterday", id="a word"),
        pytest.param("2026-02-30T00:00:00Z", id="a day that is not"),
    ],
)
def test_a_bad_time_is_refused(at: Any) -> None:
    assert refused_fields(occurred_at=at) == ["occurred_at"]


def test_times_are_kept_in_utc() -> None:
    at = read(occurred_at="2026-01-01T00:30:00+01:00").occurred_at
    assert (at, at and at.tzinfo) == (datetime(2025, 12, 31, 23, 30, tzinfo=UTC), UTC)


@pytest.mark.parametrize(
    ("tags", "field"),
    [
        pytest.param({f"t{i}": "x" for i in range(33)}, "tags", id="33 of them"),
        pytest.param({"a": "x\x00"}, "tags.a", id="NUL in a value"),
        pytest.param({"a\x01": "x"}, "tags.a\x01.[key]", id="a control character in a name"),
        pytest.param({"a": "x" * 201}, "tags.a", id="a value of 201 characters"),
        pytest.param({"a": 1}, "tags.a", id="a value that is no text"),
        pytest.param({"a": None}, "tags.a", id="a value that is null"),
        pytest.param(["a"], "tags", id="a list"),
    ],
)
def test_bad_tags_are_refused(tags: Any, field: str) -> None:
    assert refused_fields(tags=tags) == [field]


def test_32_tags_are_taken() -> None:
    assert len(read(tags={f"t{i}": "x" for i in range(32)}).tags) == 32


@pytest.mark.parametrize(
    "amount",
    [
        "-0.01",
        "NaN",
        "Infinity",
        "0.0000000001",
        "1e400",
        "ten",
        pytest.param("9999999999.999999999", id="more nanos than a BIGINT holds"),
    ],
)
def test_a_bad_reported_cost_is_refused(amount: str) -> None:
    assert refused_fields(reported_cost={"amount": amount, "currency": "USD"}) == ["reported_cost.amount"]


@pytest.mark.parametrize("currency", ["usd", "US", "USD\n", "€", ""])
def test_a_bad_currency_is_refused(currency: str) -> None:
    assert refused_fields(reported_cost={"amount": "1", "currency": currency}) == ["reported_cost.currency"]


def same(**change: Any) -> bool:
    return read(**change).digest() == read().digest()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"event_id": "7f3c2f2e-5a0e-4b1c-9a51-0c8f1f0f5b11"}, id="the id is not part of what is said"),
        pytest.param({"vendor": {"trace": 1}}, id="an unknown field says nothing"),
        pytest.param({"cache_read_input_tokens": 0}, id="an explicit zero is the absent one"),
        pytest.param({"service_tier": "standard", "estimated": False, "tags": {}}, id="explicit defaults"),
        pytest.param({"user": None, "occurred_at": None}, id="null is absent"),
        pytest.param({"input_tokens": 100.0}, id="a whole float"),
        pytest.param({"component": " rhetor "}, id="blanks around a name"),
    ],
)
def test_another_spelling_is_a_duplicate(change: dict[str, Any]) -> None:
    assert same(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"input_tokens": 101},
        {"output_tokens": 49},
        {"cache_read_input_tokens": 1},
        {"model": "gpt-5-mini"},
        {"component": "codex"},
        {"service_tier": "batch"},
        {"occurred_at": "2026-01-01T00:00:00Z"},
        {"request_id": "0b8ad7f4-6f0e-4f0a-8f0e-3d6a1f6f2c01"},
        {"user": "ada"},
        {"tags": {"a": "1"}},
        {"reported_cost": {"amount": "1", "currency": "USD"}},
        {"estimated": True},
    ],
    ids=lambda change: f"another {next(iter(change))}",
)
def test_another_content_is_a_conflict(change: dict[str, Any]) -> None:
    assert not same(**change)


def test_the_order_of_tags_says_nothing() -> None:
    one, other = read(tags={"a": "1", "b": "2"}), read(tags={"b": "2", "a": "1"})
    assert one.digest() == other.digest() != read(tags={"a": "2", "b": "1"}).digest()


def test_one_instant_in_two_time_zones_is_one_instant() -> None:
    paris, london = read(occurred_at="2026-07-01T14:00:00+02:00"), read(occurred_at="2026-07-01T12:00:00.000Z")
    assert paris.digest() == london.digest()


@given(st.permutations([*BASE.items(), ("user", "ada"), ("tags", {"x": "1"})]))
def test_the_order_of_fields_says_nothing(items: list[tuple[str, Any]]) -> None:
    raw = json.dumps(dict(items)).encode()
    assert decode(UsageRecorded, raw).digest() == read(user="ada", tags={"x": "1"}).digest()


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_that_are_no_event_are_rejected_and_nothing_else(raw: bytes) -> None:
    with pytest.raises(Rejected, match=r"not valid JSON|invalid input"):
        decode(UsageRecorded, raw)
