"""Bytes -> a model or a reason that tells the sender what to mend."""

from __future__ import annotations

import json

import pytest

from budget_bus.errors import FieldError, Rejected
from budget_bus.events.decode import decode
from budget_bus.events.holds import HoldExtended, HoldReleased
from budget_bus.events.usage import UsageRecorded


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(None, "the value is null; a JSON object is needed", id="a tombstone"),
        pytest.param(b"", "not valid JSON", id="nothing"),
        pytest.param(b"\xff\xfe", "not valid JSON", id="no UTF-8"),
        pytest.param(b'{"component": "rhetor"', "not valid JSON", id="cut off"),
        pytest.param(b'{"component": "\xff"}', "not valid JSON", id="no UTF-8 inside a name"),
        pytest.param(b"[" * 100_000, "not valid JSON", id="nested without end"),
        pytest.param(b'{"input_tokens": ' + b"9" * 5_000 + b"}", "not valid JSON", id="a number of 5,000 digits"),
        pytest.param(b"[]", "invalid input", id="a list"),
        pytest.param(b"null", "invalid input", id="null as JSON"),
        pytest.param(b'"text"', "invalid input", id="a string"),
    ],
)
def test_what_is_no_object_is_rejected_as_a_whole(raw: bytes | None, reason: str) -> None:
    with pytest.raises(Rejected) as refused:
        decode(UsageRecorded, raw)
    assert refused.value.detail == reason
    assert {error.field for error in refused.value.errors} <= {""}


def test_every_wrong_field_is_named_at_once() -> None:
    raw = json.dumps({"component": "", "provider": "p", "input_tokens": -1, "output_tokens": 1}).encode()
    with pytest.raises(Rejected) as refused:
        decode(UsageRecorded, raw)
    assert {error.field for error in refused.value.errors} == {"component", "model", "input_tokens"}


def test_the_reason_is_one_line_for_people() -> None:
    raw = json.dumps({"request_id": "0b8ad7f4-6f0e-4f0a-8f0e-3d6a1f6f2c01", "component": "a\nb"}).encode()
    with pytest.raises(Rejected) as refused:
        decode(HoldReleased, raw)
    assert str(refused.value) == "invalid input; component: must not contain control characters"


def test_a_hold_is_extended_to_a_moment() -> None:
    raw = json.dumps({"request_id": "0b8ad7f4-6f0e-4f0a-8f0e-3d6a1f6f2c01", "component": "rhetor"}).encode()
    with pytest.raises(Rejected) as refused:
        decode(HoldExtended, raw)
    assert refused.value.errors == (FieldError("expires_at", "is required"),)
