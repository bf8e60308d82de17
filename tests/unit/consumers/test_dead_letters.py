"""Dead letters: a metric's label says the kind of fault and nothing that a record could fill it with."""

from __future__ import annotations

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from budget_bus.consumers.dead_letters import DeadLetter
from budget_bus.errors import Rejected
from budget_bus.events.checks import CheckRequested
from budget_bus.events.decode import decode
from budget_bus.events.usage import UsageRecorded

RECORD = ConsumerRecord("usage.recorded", 0, 0, 0, 0, None, None, None, -1, -1, ())


@pytest.mark.parametrize(
    ("reason", "label"),
    [
        pytest.param("conflict", "conflict", id="a kind is its own label"),
        pytest.param("invalid input; component: is required", "invalid input", id="without the fields"),
        pytest.param("it cannot be applied: DataError: 9e99", "it cannot be applied", id="without the fault's text"),
        pytest.param("the value is null; a JSON object is needed", "the value is null", id="without the fix"),
        pytest.param("x" * 500, "x" * 60, id="never long"),
        pytest.param("", "", id="also of nothing"),
    ],
)
def test_the_label_is_the_kind_of_fault(reason: str, label: str) -> None:
    assert DeadLetter(RECORD, reason).label == label


@given(st.text())
def test_a_label_is_bounded(reason: str) -> None:
    label = DeadLetter(RECORD, reason).label
    assert len(label) <= 60
    assert not {":", ";"} & set(label)


# What a record may say, with names that look like our own separators.
said = st.dictionaries(
    st.sampled_from(["component", "provider", "model", "input_tokens", "tags", "occurred_at", "hold_ttl_s"]),
    st.none() | st.integers() | st.text() | st.dictionaries(st.text(), st.text() | st.integers(), max_size=2),
)


@given(said, st.sampled_from([UsageRecorded, CheckRequested]), st.binary(max_size=20))
def test_no_record_can_make_a_label_of_its_own(
    fields: dict[str, object], model: type[UsageRecorded | CheckRequested], garbage: bytes
) -> None:
    from pydantic_core import to_json

    for raw in (to_json(fields), garbage, None):
        try:
            decode(model, raw)
        except Rejected as error:
            label = DeadLetter(RECORD, str(error)).label
            assert label in {"invalid input", "not valid JSON", "the value is null"}
