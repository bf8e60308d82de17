"""A usage record -> what the ledger needs: ids that a replay repeats, times, tokens of texts, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from aiokafka import ConsumerRecord

from budget_bus.consumers.incoming import Incoming, read_usage
from budget_bus.errors import Rejected
from budget_bus.events.fields import MAX_FUTURE_S
from budget_bus.policy.pricing import PriceStatus, Tokens
from budget_bus.providers.prices import PriceBook

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SENT = NOW - timedelta(seconds=1)
TOPIC = "usage.recorded"
PRICES = PriceBook()
COUNTED = {"input_tokens": 1000, "output_tokens": 100}


def body(**fields: Any) -> bytes:
    said = {"component": "rhetor", "provider": "openai", "model": "gpt-4o", **COUNTED, **fields}
    return json.dumps({name: value for name, value in said.items() if value is not ...}).encode()


def record(value: bytes | None, *, partition: int = 0, offset: int = 7, sent: datetime = SENT) -> ConsumerRecord:
    timestamp = int(sent.timestamp() * 1000)
    return ConsumerRecord(TOPIC, partition, offset, timestamp, 0, None, value, None, -1, 2, ())


def read(value: bytes | None, **kwargs: Any) -> Incoming:
    return read_usage(record(value, **kwargs), TOPIC, PRICES, now=NOW)


def test_an_event_keeps_its_own_id_and_time() -> None:
    event_id = UUID("0198a8f0-0000-7000-8000-000000000001")
    incoming = read(body(event_id=str(event_id), occurred_at="2026-11-01T14:00:00+02:00"))
    assert incoming.event_id == event_id
    assert incoming.occurred_at == datetime(2026, 11, 1, 12, tzinfo=UTC)


def test_a_missing_time_is_the_records_time() -> None:
    assert read(body()).occurred_at == SENT
    assert read(body(), sent=NOW - timedelta(days=30)).occurred_at == NOW - timedelta(days=30)


def test_a_derived_id_is_the_same_when_the_log_is_read_again() -> None:
    first, again = read(body()), read(body())
    assert first.event_id == again.event_id
    assert first.digest == again.digest
    assert first.event_id.version == 5


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(record(body(), offset=8), id="another offset"),
        pytest.param(record(body(), partition=1), id="another partition"),
        pytest.param(record(body(), sent=SENT + timedelta(milliseconds=1)), id="a topic made anew, at another time"),
        pytest.param(record(body(user="ann")), id="a topic made anew, with another content"),
    ],
)
def test_a_derived_id_is_another_for(other: ConsumerRecord) -> None:
    assert read_usage(other, TOPIC, PRICES, now=NOW).event_id != read(body()).event_id


def test_a_derived_id_is_another_in_another_topic() -> None:
    assert read_usage(record(body()), "other", PRICES, now=NOW).event_id != read(body()).event_id


def test_partition_and_offset_cannot_be_taken_for_each_other() -> None:
    assert read(body(), partition=1, offset=12).event_id != read(body(), partition=11, offset=2).event_id


def test_the_digest_is_over_what_the_caller_said_alone() -> None:
    plain = read(body())
    assert read(body(event_id="0198a8f0-0000-7000-8000-000000000001")).digest == plain.digest
    assert read(body(tags={}, user=None, a_new_field=1), offset=8, sent=NOW).digest == plain.digest
    assert read(body(output_tokens=101)).digest != plain.digest


@pytest.mark.parametrize(
    ("ahead_s", "taken"),
    [
        pytest.param(-3600 * 24 * 400, True, id="a year old is welcome"),
        pytest.param(0, True, id="now"),
        pytest.param(MAX_FUTURE_S, True, id="just within the allowance"),
        pytest.param(MAX_FUTURE_S + 1, False, id="a second beyond it"),
        pytest.param(3600 * 24 * 365, False, id="next year"),
    ],
)
@pytest.mark.parametrize("said", [True, False], ids=["said by the caller", "by the record's time"])
def test_an_event_of_the_future_is_refused(said: bool, ahead_s: int, taken: bool) -> None:
    at = NOW + timedelta(seconds=ahead_s)
    value, sent = (body(occurred_at=at.isoformat()), SENT) if said else (body(), at)
    if taken:
        assert read(value, sent=sent).occurred_at == at
    else:
        with pytest.raises(Rejected, match="occurred_at: is more than 300 s in the future"):
            read(value, sent=sent)


def test_names_are_stored_ones() -> None:
    incoming = read(body(provider="Azure OpenAI", model=" gpt-4o ", tags={"b": "2", "a": "1"}))
    assert (incoming.call.provider, incoming.call.model) == ("azure", "gpt-4o")
    assert incoming.call.tier == "remote_heavyweight"
    assert incoming.call.tags == (("a", "1"), ("b", "2"))


def test_counts_are_taken_as_they_are() -> None:
    incoming = read(
        body(
            cache_read_input_tokens=1,
            cache_creation_input_tokens=2,
            reasoning_output_tokens=3,
            input_audio_tokens=4,
            output_audio_tokens=5,
        )
    )
    assert incoming.tokens == Tokens(1000, 100, 1, 2, 3, 4, 5)


def test_texts_are_counted() -> None:
    incoming = read(body(input_tokens=..., output_tokens=..., input_text="hello world", output_text=""))
    assert incoming.tokens == Tokens(2, 0)


@pytest.mark.parametrize(
    ("fields", "source"),
    [
        pytest.param({}, "provider", id="counts"),
        pytest.param({"input_text": "hello", "output_text": "hello"}, "provider", id="counts that win over texts"),
        pytest.param({"estimated": True}, "estimated", id="counts that the caller estimated"),
        pytest.param({"input_tokens": ..., "input_text": "hello"}, "exact", id="one text, exactly counted"),
        pytest.param(
            {"input_tokens": ..., "input_text": "hello", "provider": "anthropic", "model": "claude-sonnet-4-5"},
            "estimated",
            id="a text without a vocabulary",
        ),
        pytest.param(
            {"input_tokens": ..., "input_text": "hello", "estimated": True}, "estimated", id="the weaker of the two"
        ),
    ],
)
def test_the_source_of_tokens_is_the_weakest_of_its_parts(fields: dict[str, Any], source: str) -> None:
    assert read(body(**fields)).token_source == source


def test_a_count_wins_over_its_text() -> None:
    incoming = read(body(input_text="hello world", output_text="hello"))
    assert incoming.tokens == Tokens(1000, 100)


def test_an_event_is_priced_at_the_time_it_happened() -> None:
    incoming = read(body())
    assert incoming.price == PRICES.price("openai", "gpt-4o", SENT)
    assert incoming.price_status is PriceStatus.PRICED
    assert incoming.cost is not None
    assert incoming.cost.total > 0


def test_a_model_without_a_price_is_unpriced_and_not_free() -> None:
    incoming = read(body(provider="nobody", model="nothing"))
    assert (incoming.price, incoming.cost, incoming.price_status) == (None, None, PriceStatus.UNPRICED)


def test_a_local_model_is_free_and_not_unpriced() -> None:
    incoming = read(body(provider="ollama", model="llama3"))
    assert incoming.price_status is PriceStatus.FREE
    assert incoming.cost is not None
    assert incoming.cost.total == 0


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param(None, "the value is null", id="a tombstone"),
        pytest.param(b"", "not valid JSON", id="an empty value"),
        pytest.param(b"\xff\xfe", "not valid JSON", id="bytes that are no text"),
        pytest.param(b"[]", "invalid input", id="a list"),
        pytest.param(body(component=...), "component: is required", id="a missing name"),
        pytest.param(body(input_tokens=...), "input_tokens: is required", id="neither count nor text"),
        pytest.param(body(cache_read_input_tokens=1001), "must not exceed input_tokens", id="more cached than input"),
        pytest.param(body(occurred_at="1999-12-31T23:59:59Z"), "occurred_at: must be", id="before 2000"),
    ],
)
def test_what_cannot_be_used_is_rejected_with_its_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(Rejected) as raised:
        read(value)
    assert reason in str(raised.value)
