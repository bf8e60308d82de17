"""The notifier on a real broker, with real receivers of HTTP and SMTP beside it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from structlog.testing import capture_logs

from budget_bus.events.topics import BUDGET_ALERTS, TOPICS
from budget_bus.kafka import connection
from budget_bus.notifiers import attempts
from budget_bus.notifiers.subscriber import NOTIFIER_GROUP
from budget_bus.producers.topics import apply_topics
from budget_bus.roles import notifier
from budget_bus.settings import Settings, load_settings
from tests.receivers import HttpReceiver, Posted, SmtpReceiver, http_receiver, smtp_receiver

pytestmark = pytest.mark.usefixtures("kafka")
EXAMPLE = Path(__file__).parents[2] / "schemas/examples/budget.alerts/good/approaching.json"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the published example
Publish = Callable[..., Awaitable[str]]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts of a few milliseconds; what they are otherwise is the unit tests' matter."""
    original = attempts.Patience.pause_s

    def pause_s(self: attempts.Patience, tried: int, **arguments: Any) -> float | None:
        pause = original(self, tried, **arguments)
        return None if pause is None else min(pause, 0.01)

    monkeypatch.setattr(attempts.Patience, "pause_s", pause_s)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def told(kafka: str, topic_prefix: str) -> Callable[..., Settings]:
    """Settings with the channels that are named; no database, as a notifier needs none."""

    def make(
        *, webhook: HttpReceiver | None = None, slack: HttpReceiver | None = None, mail: SmtpReceiver | None = None
    ) -> Settings:
        environ = {"BUDGET_KAFKA_BOOTSTRAP_SERVERS": kafka, "BUDGET_TOPIC_PREFIX": topic_prefix}
        if webhook:
            environ |= {"BUDGET_NOTIFY_WEBHOOK_URL": webhook.url, "BUDGET_NOTIFY_WEBHOOK_SECRET": SECRET}
        if slack:
            environ["BUDGET_NOTIFY_SLACK_URL"] = slack.url
        if mail:
            environ |= {
                "BUDGET_NOTIFY_SMTP_URL": f"smtp://127.0.0.1:{mail.port}",
                "BUDGET_NOTIFY_EMAIL_FROM": "budget@example.org",
                "BUDGET_NOTIFY_EMAIL_TO": "ops@example.org",
            }
        return load_settings(environ, env_file=Path("/dev/null"))

    return make


@pytest.fixture
async def publish(told: Callable[..., Settings]) -> AsyncIterator[Publish]:
    """Publish a fresh alert, or the bytes that are given; gives the alert's id."""
    settings = told()
    await apply_topics(settings)
    topic = settings.topic_prefix + BUDGET_ALERTS
    async with AIOKafkaProducer(**connection(settings)) as producer:

        async def one(value: bytes | None = b"", headers: list[tuple[str, bytes]] | None = None) -> str:
            alert_id = str(uuid.uuid4())
            fresh = json.loads(EXAMPLE.read_text()) | {
                "alert_id": alert_id,
                "raised_at": datetime.now(UTC).isoformat(),
            }
            await producer.send_and_wait(
                topic, json.dumps(fresh).encode() if value == b"" else value, key=b"budget", headers=headers or []
            )
            return alert_id

        yield one
    async with admin(settings) as client:
        await client.delete_topics([settings.topic_prefix + spec.name for spec in TOPICS])


async def until_committed(settings: Settings, channel: str, offset: int) -> None:
    """Wait for the broker's word; nothing tells us when it has it, so it is asked again."""
    async with asyncio.timeout(30), admin(settings) as asking:
        while await committed(settings, channel, asking) < offset:
            await asyncio.to_thread(lambda: None)


async def committed(settings: Settings, channel: str, asking: AIOKafkaAdminClient) -> int:
    """What the channel's group has committed."""
    prefix = settings.topic_prefix
    offsets = await asking.list_consumer_group_offsets(f"{prefix}{NOTIFIER_GROUP}.{channel}")
    found = offsets.get(TopicPartition(prefix + BUDGET_ALERTS, 0))
    return found.offset if found else 0


@asynccontextmanager
async def admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(**connection(settings))
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def id_of(posted: Posted) -> str:
    return posted.headers["webhook-id"]


async def test_an_alert_is_delivered_once_to_every_channel(publish: Publish, told: Callable[..., Settings]) -> None:
    async with http_receiver() as webhook, http_receiver() as slack, smtp_receiver() as mail:
        settings = told(webhook=webhook, slack=slack, mail=mail)
        async with notifier(settings):
            with capture_logs() as logs:
                alert_id = await publish()
                assert id_of(await webhook.next()) == alert_id
                assert "cost limit approaching" in json.loads((await slack.next()).body)["text"]
                assert alert_id in (await mail.next())["Message-ID"]
                for channel in ("webhook", "slack", "email", "log"):
                    await until_committed(settings, channel, 1)
        assert [entry["alert_id"] for entry in logs if entry["event"].startswith("Budget daily")] == [alert_id]
        async with notifier(settings):
            second = await publish()
            assert id_of(await webhook.next()) == second
        assert webhook.posted.empty()


async def test_a_busy_receiver_gets_the_same_alert_again(publish: Publish, told: Callable[..., Settings]) -> None:
    async with http_receiver((503, "Retry-After: 0\r\n"), (429, "")) as webhook, notifier(told(webhook=webhook)):
        alert_id = await publish()
        assert [id_of(await webhook.next()) for _ in range(3)] == [alert_id] * 3
        second = await publish()
        assert id_of(await webhook.next()) == second


async def test_a_refused_alert_is_given_up_and_the_next_one_is_sent(
    publish: Publish, told: Callable[..., Settings]
) -> None:
    async with http_receiver((404, "")) as webhook, notifier(told(webhook=webhook)):
        ids = [await publish(), await publish()]
        assert [id_of(await webhook.next()) for _ in range(2)] == ids


async def test_a_channel_that_is_down_neither_delays_nor_repeats_the_others(
    publish: Publish, told: Callable[..., Settings]
) -> None:
    async with http_receiver() as webhook, http_receiver(*[(503, "")] * 100_000) as slack:
        settings = told(webhook=webhook, slack=slack)
        async with notifier(settings):
            ids = [await publish() for _ in range(3)]
            assert [id_of(await webhook.next()) for _ in ids] == ids
            assert "cost limit" in json.loads((await slack.next()).body)["text"]
            await until_committed(settings, "webhook", 3)
            async with admin(settings) as client:
                assert await committed(settings, "slack", client) == 0
        slack.script.clear()
        slack.posted = asyncio.Queue()
        async with notifier(settings):
            texts = [json.loads((await slack.next()).body)["text"] for _ in ids]
            assert [alert_id for alert_id, text in zip(ids, texts, strict=True) if alert_id in text] == ids
        assert webhook.posted.empty()


async def test_a_restart_in_the_middle_loses_nothing(publish: Publish, told: Callable[..., Settings]) -> None:
    async with http_receiver((200, ""), (503, "")) as webhook:
        settings = told(webhook=webhook)
        ids = [await publish() for _ in range(4)]
        async with notifier(settings):
            assert id_of(await webhook.next()) == ids[0]
            webhook.open.clear()
            assert id_of(await webhook.next()) == ids[1]
            # It is stopped over the second one, which gets its 503 only now.
            stopping = asyncio.get_running_loop().call_soon(webhook.open.set)
        assert stopping is not None
        seen = ids[:2]
        async with notifier(settings):
            while seen[-1] != ids[-1]:
                seen.append(id_of(await webhook.next()))
    assert set(seen) == set(ids)
    assert seen[2:] == ids[1:]


async def test_a_record_that_is_no_alert_is_skipped(publish: Publish, told: Callable[..., Settings]) -> None:
    async with http_receiver() as webhook, notifier(told(webhook=webhook)):
        for value in (b"{", b"\xff\xfe", None, b'{"alert_id": "no"}'):
            await publish(value, [("content-type", b"application/json")])
        odd = await publish(headers=[("a", b"\xff"), ("reply_to", b"elsewhere")])
        assert id_of(await webhook.next()) == odd


async def test_two_notifiers_share_the_work(publish: Publish, told: Callable[..., Settings]) -> None:
    async with http_receiver() as webhook:
        settings = told(webhook=webhook)
        async with notifier(settings):
            async with notifier(settings):
                first = await publish()
                assert id_of(await webhook.next()) == first
                await until_committed(settings, "webhook", 1)
            second = await publish()
            assert id_of(await webhook.next()) == second
        assert webhook.posted.empty()
