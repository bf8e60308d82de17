"""The subscribers on FastStream's broker in memory: what becomes of good and bad records."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from faststream.kafka import KafkaBroker, TestKafkaBroker
from faststream.kafka.message import KafkaAckableMessage
from structlog.testing import capture_logs

from budget_bus.events.facts import BudgetAlert
from budget_bus.notifiers.attempts import Patience, Refused
from budget_bus.notifiers.courier import Courier
from budget_bus.notifiers.subscriber import build, channels
from budget_bus.settings import Settings, load_settings
from tests.unit.notifiers.alerts import alert

EXAMPLES = Path(__file__).parents[3] / "schemas/examples/budget.alerts"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the published example
KAFKA = {"BUDGET_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9, 127.0.0.2:9", "BUDGET_TOPIC_PREFIX": "t."}


def settings(**more: str) -> Settings:
    return load_settings({**KAFKA, **more}, env_file=Path("/dev/null"))


class Kept:
    """A channel that keeps what it is sent, or refuses it."""

    def __init__(self, name: str, refuses: bool = False) -> None:
        self.name, self.refuses, self.alerts = name, refuses, list[BudgetAlert]()

    async def send(self, alert: BudgetAlert) -> None:
        self.alerts.append(alert)
        if self.refuses:
            raise Refused("no")


def courier(channel: Kept, stopping: asyncio.Event | None = None) -> Courier:
    return Courier(
        channel,
        patience=Patience(1),
        max_age_s=1e12,
        min_severity="info",
        stopping=stopping or asyncio.Event(),
    )


@pytest.fixture
def acks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    original = KafkaAckableMessage.ack

    async def ack(self: KafkaAckableMessage) -> None:
        found.append(self.raw_message)
        await original(self)

    monkeypatch.setattr(KafkaAckableMessage, "ack", ack)
    return found


@pytest.fixture
async def bus() -> AsyncIterator[tuple[KafkaBroker, Kept, Kept]]:
    first, second = Kept("first", refuses=True), Kept("second")
    broker = build(settings(), [courier(first), courier(second)])
    async with TestKafkaBroker(broker):
        yield broker, first, second


async def test_every_channel_gets_the_alert_and_is_done_with_it_on_its_own(
    bus: tuple[KafkaBroker, Kept, Kept], acks: list[Any]
) -> None:
    broker, first, second = bus
    await broker.publish(alert().model_dump_json().encode(), "t.budget.alerts")
    assert first.alerts == second.alerts == [alert()]
    assert len(acks) == 2


@pytest.mark.parametrize(
    "value", [pytest.param(path.read_bytes(), id=path.stem) for path in sorted((EXAMPLES / "good").glob("*.json"))]
)
async def test_every_good_example_is_passed_on(value: bytes, bus: tuple[KafkaBroker, Kept, Kept]) -> None:
    broker, _, second = bus
    await broker.publish(value, "t.budget.alerts")
    assert len(second.alerts) == 1


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(b"{}", id="an object without fields"),
        pytest.param(alert().model_dump_json().replace("30Z", "30").encode(), id="an instant without a time zone"),
        *(pytest.param(p.read_bytes(), id=p.stem) for p in sorted((EXAMPLES / "bad").glob("*.json"))),
    ],
)
async def test_a_record_that_is_no_alert_is_logged_and_skipped(
    value: bytes, bus: tuple[KafkaBroker, Kept, Kept], acks: list[Any]
) -> None:
    broker, first, second = bus
    with capture_logs() as logs:
        await broker.publish(value, "t.budget.alerts", headers={"content-type": "application/json"})
    assert first.alerts == second.alerts == []
    assert len(acks) == 2
    assert [entry["event"] for entry in logs] == ["skipping a record that is no alert"] * 2


async def test_a_header_cannot_have_us_answer(bus: tuple[KafkaBroker, Kept, Kept]) -> None:
    broker, _, second = bus
    answers: list[Any] = []

    @broker.subscriber("t.usage.recorded")
    async def answered(value: Any) -> None:
        answers.append(value)

    await broker.publish(alert().model_dump_json().encode(), "t.budget.alerts", reply_to="t.usage.recorded")
    assert (len(second.alerts), answers) == (1, [])


async def test_what_was_not_taken_before_the_end_is_not_committed(acks: list[Any]) -> None:
    stopping = asyncio.Event()
    stopping.set()
    broker = build(settings(), [courier(Kept("stopped"), stopping)])
    async with TestKafkaBroker(broker):
        await broker.publish(alert().model_dump_json().encode(), "t.budget.alerts")
    assert acks == []


def test_each_channel_has_a_group_of_its_own_and_commits_by_hand() -> None:
    broker = build(settings(), [courier(Kept("first")), courier(Kept("second"))])
    subscribers: list[Any] = sorted(broker.subscribers, key=lambda subscriber: str(subscriber.group_id))
    assert [s.group_id for s in subscribers] == ["t.budget_bus.notifier.first", "t.budget_bus.notifier.second"]
    for subscriber in subscribers:
        assert subscriber._connection_args["enable_auto_commit"] is False
        assert subscriber._connection_args["auto_offset_reset"] == "earliest"
        # Else the group throws us out while a receiver is waited for.
        assert subscriber._connection_args["max_poll_interval_ms"] > settings().notify_give_up_after_s * 1000


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        pytest.param({}, ["log"], id="the log alone"),
        pytest.param({"BUDGET_NOTIFY_SLACK_URL": "https://hooks.example.org/x"}, ["log", "slack"], id="and Slack"),
        pytest.param(
            {"BUDGET_NOTIFY_WEBHOOK_URL": "https://example.org", "BUDGET_NOTIFY_WEBHOOK_SECRET": SECRET},
            ["log", "webhook"],
            id="and a webhook",
        ),
        pytest.param(
            {
                "BUDGET_NOTIFY_SMTP_URL": "smtp://mail.example.org",
                "BUDGET_NOTIFY_EMAIL_FROM": "budget@example.org",
                "BUDGET_NOTIFY_EMAIL_TO": "ops@example.org",
            },
            ["log", "email"],
            id="and e-mail",
        ),
    ],
)
async def test_the_settings_name_the_channels(environ: dict[str, str], names: list[str]) -> None:
    given = settings(**environ)
    async with channels(given) as opened:
        assert [channel.name for channel in opened] == names
    assert given.notifies is (len(names) > 1)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, ("PLAINTEXT", None, None), id="in clear"),
        pytest.param({"BUDGET_KAFKA_SECURITY_PROTOCOL": "SSL"}, ("SSL", None, None), id="TLS"),
        pytest.param(
            {"BUDGET_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "BUDGET_KAFKA_SASL_USERNAME": "u"},
            ("SASL_PLAINTEXT", "PLAIN", "u"),
            id="a password in clear",
        ),
        pytest.param(
            {
                "BUDGET_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "BUDGET_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
                "BUDGET_KAFKA_SASL_USERNAME": "u",
            },
            ("SASL_SSL", "SCRAM-SHA-512", "u"),
            id="SCRAM within TLS",
        ),
    ],
)
def test_the_broker_is_reached_as_everywhere(
    environ: dict[str, str], expected: tuple[str, str | None, str | None]
) -> None:
    broker = build(settings(**environ), [courier(Kept("first"))])
    options: dict[str, Any] = broker.config.broker_config.builder.keywords
    protocol, mechanism, user = expected
    assert options["bootstrap_servers"] == ["127.0.0.1:9", "127.0.0.2:9"]
    assert options.get("security_protocol", "PLAINTEXT") == protocol
    assert (options.get("sasl_mechanism") if mechanism else None) == mechanism
    assert options.get("sasl_plain_username") == user
    assert isinstance(options.get("ssl_context"), ssl.SSLContext) is ("SSL" in protocol.split("_"))
