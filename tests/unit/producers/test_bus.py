"""What the SDK decides before and after Kafka: fields, ids, answers."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from budget_bus.errors import BudgetUnavailable, ConfigError, Conflict, Rejected
from budget_bus.events.ids import new_id
from budget_bus.events.usage import UsageRecorded
from budget_bus.producers import BudgetBus
from budget_bus.producers.asking import _read_answer
from budget_bus.producers.fields import read_fields
from budget_bus.producers.replies import Reply
from budget_bus.settings import Settings

CALL: dict[str, Any] = {"component": "c", "provider": "p", "model": "m", "input_tokens": 1, "output_tokens": 2}


def test_python_values_are_read_as_their_json_would_be() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    cost = {"amount": Decimal("0.10"), "currency": "USD"}
    event = read_fields(
        UsageRecorded, {**CALL, "event_id": UUID(int=5), "occurred_at": at, "reported_cost": cost, "user": None}
    )
    text = read_fields(
        UsageRecorded,
        {
            **CALL,
            "event_id": str(UUID(int=5)),
            "occurred_at": at.isoformat(),
            "reported_cost": {**cost, "amount": "0.10"},
        },
    )
    assert event == text
    assert "user" not in event.model_fields_set


@pytest.mark.parametrize(
    ("fields", "index", "field"),
    [
        ({**CALL, "input_token": 1}, None, "input_token"),
        ({**CALL, "model": ""}, None, "model"),
        ({**CALL, "output_tokens": -1}, 3, "3.output_tokens"),
        ({**CALL, "modle": "m"}, 3, "3.modle"),
    ],
    ids=["a misspelt argument", "an empty name", "a negative count of the fourth event", "a misspelt one of it"],
)
def test_a_wrong_argument_is_named(fields: dict[str, Any], index: int | None, field: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_fields(UsageRecorded, fields, index)
    assert caught.value.errors[0].field == field


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(Rejected, match="not expressible in JSON"):
        read_fields(UsageRecorded, {**CALL, "tags": {"a": object()}})


def test_ids_are_of_version_7_and_grow() -> None:
    ids = [new_id() for _ in range(100)]
    assert {(i.version, i.variant) for i in ids} == {(7, UUID(int=0x8 << 60).variant)}
    assert len(set(ids)) == 100
    assert [i.int >> 80 for i in ids] == sorted(i.int >> 80 for i in ids)


def test_an_answer_with_an_error_is_raised_as_that_error() -> None:
    assert _read_answer(Reply(b"{}", {})) == b"{}"
    with pytest.raises(Conflict, match="another question"):
        _read_answer(Reply(b'{"detail": "another question"}', {"error": b"conflict"}))
    with pytest.raises(Rejected, match="without a reason"):
        _read_answer(Reply(b"[]", {"error": b"invalid"}))


async def test_a_bus_that_is_not_started_says_so() -> None:
    bus = BudgetBus("127.0.0.1:1")
    with pytest.raises(BudgetUnavailable, match="not connected"):
        await bus.record(**CALL)
    with pytest.raises(BudgetUnavailable) as caught:
        await bus.check(component="c", provider="p", model="m", estimated_tokens=1, request_id=UUID(int=1))
    assert caught.value.request_id == str(UUID(int=1))


async def test_a_broker_that_is_not_there_is_unavailable_at_the_start() -> None:
    from budget_bus.local.ports import free_port

    with pytest.raises(BudgetUnavailable, match="does not answer"):
        async with BudgetBus(f"127.0.0.1:{free_port()}"):
            pytest.fail("it started without a broker")


def test_a_bus_without_bootstrap_servers_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="BUDGET_KAFKA_BOOTSTRAP_SERVERS"):
        BudgetBus.from_settings(Settings.model_construct())


def test_the_components_environment_does_not_change_its_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUDGET_TOPIC_PREFIX", "elsewhere.")
    monkeypatch.setenv("BUDGET_KAFKA_SECURITY_PROTOCOL", "SSL")
    assert BudgetBus("127.0.0.1:1").topic("usage.recorded") == "usage.recorded"


def test_importing_the_sdk_loads_neither_books_nor_gateway() -> None:
    code = (
        "import sys; from budget_bus.producers import BudgetBus;"
        "servers = {'asyncpg', 'starlette', 'uvicorn', 'faststream', 'budget_bus.store', 'budget_bus.http'};"
        "print(sorted(servers & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
