"""
budget.alerts by FastStream: one subscriber per channel, each with a consumer group of its own.

A group of its own is what keeps channels apart: its offset says what this channel has taken or given up, so one that
waits for its receiver neither delays nor repeats the others, also over a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage
from faststream.message import StreamMessage
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from budget_bus.errors import Rejected
from budget_bus.events.decode import decode
from budget_bus.events.facts import BudgetAlert
from budget_bus.events.topics import BUDGET_ALERTS
from budget_bus.kafka import connection
from budget_bus.notifiers.attempts import Patience
from budget_bus.notifiers.courier import Channel, Courier
from budget_bus.notifiers.log import Log
from budget_bus.notifiers.mail import Mail, server_of
from budget_bus.notifiers.posting import ATTEMPT_S, http_client
from budget_bus.notifiers.slack import Slack
from budget_bus.notifiers.webhook import Webhook
from budget_bus.settings import Settings

NOTIFIER_GROUP = "budget_bus.notifier"
_RECONNECT_S = 5.0
_CLOSING_S = 2 * ATTEMPT_S
_SASL: dict[str, Callable[..., BaseSecurity]] = {
    "PLAIN": SASLPlaintext,
    "SCRAM-SHA-256": SASLScram256,
    "SCRAM-SHA-512": SASLScram512,
}

log = structlog.get_logger()


class Notifier:
    """The role: runs until `stop`; a broker that is away is waited for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the attempts that are under way; what was not taken by then comes again at the next start."""
        self._stopping.set()

    async def run(self) -> None:
        """Pass alerts on until `stop`."""
        async with channels(self._settings) as opened:
            couriers = [self._courier(channel) for channel in opened]
            while not self._stopping.is_set():
                broker = build(self._settings, couriers)
                try:
                    await broker.start()
                except (KafkaError, OSError) as error:
                    log.warning("the broker does not answer", reason=type(error).__name__)
                    await self._pause()
                else:
                    await self._stopping.wait()
                finally:
                    await _close(broker)

    def _courier(self, channel: Channel) -> Courier:
        settings = self._settings
        return Courier(
            channel,
            patience=Patience(settings.notify_give_up_after_s),
            max_age_s=settings.notify_max_age_s,
            min_severity=settings.notify_min_severity,
            stopping=self._stopping,
        )

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RECONNECT_S):
                await self._stopping.wait()


@asynccontextmanager
async def channels(settings: Settings) -> AsyncIterator[list[Channel]]:
    """The log and what the settings name besides."""
    async with http_client() as http:
        opened: list[Channel] = [Log()]
        if settings.notify_webhook_url and settings.notify_webhook_secret:
            opened.append(Webhook(http, settings.notify_webhook_url, settings.notify_webhook_secret))
        if settings.notify_slack_url:
            opened.append(Slack(http, settings.notify_slack_url))
        if settings.notify_smtp_url and settings.notify_email_from and settings.notify_email_to:
            server = server_of(settings.notify_smtp_url)
            opened.append(Mail(server, settings.notify_email_from, settings.notify_email_to))
        yield opened


def build(settings: Settings, couriers: Sequence[Courier]) -> KafkaBroker:
    """A broker that is not started yet, with a subscriber for each of *couriers*."""
    arguments = connection(settings)
    # It warns of things that are as they should be, such as a second process that stands by; what matters we say.
    chatter = logging.getLogger("faststream.budget_bus")
    chatter.setLevel(logging.ERROR)
    broker = KafkaBroker(
        # FastStream takes a text for one server, whatever commas are in it.
        [server.strip() for server in arguments["bootstrap_servers"].split(",")],
        security=_security(arguments),
        client_id=arguments["client_id"],
        consumer_only=True,
        allow_auto_create_topics=False,
        # A topic that is made after us is found within this time.
        metadata_max_age_ms=30_000,
        graceful_timeout=ATTEMPT_S + 2,
        logger=chatter,
        log_level=logging.DEBUG,
    )
    for courier in couriers:
        subscribe(broker, courier, prefix=settings.topic_prefix, longest_s=settings.notify_give_up_after_s)
    return broker


def subscribe(broker: KafkaBroker, courier: Courier, *, prefix: str, longest_s: float) -> None:
    """Have *broker* hand every alert to *courier*, which may take *longest_s* for one."""
    subscriber = broker.subscriber(
        f"{prefix}{BUDGET_ALERTS}",
        group_id=f"{prefix}{NOTIFIER_GROUP}.{courier.channel.name}",
        # FastStream's default commits on arrival. Others also commit what failed; we commit by hand what is done with.
        ack_policy=AckPolicy.MANUAL,
        auto_offset_reset="earliest",
        # A member that does not poll for longer than this is thrown out of its group.
        max_poll_interval_ms=int((longest_s + 6 * ATTEMPT_S) * 1000),
        parser=_without_headers,
        decoder=_undecoded,
    )

    @subscriber
    async def hand_over(value: bytes, message: KafkaMessage) -> None:
        if await _delivered(courier, value, message.raw_message):
            try:
                await message.ack()
            except KafkaError as error:
                log.warning("an alert may be sent again", channel=courier.channel.name, reason=type(error).__name__)


async def _delivered(courier: Courier, value: bytes, record: Any) -> bool:
    try:
        alert = decode(BudgetAlert, value)
        if alert.raised_at.tzinfo is None:
            raise Rejected("raised_at has no time zone")
    except Rejected as error:
        where = f"{record.topic} {record.partition}:{record.offset}"
        log.warning("skipping a record that is no alert", record=where, reason=str(error)[:500])
        return True
    return await courier.deliver(alert)


async def _without_headers(
    record: ConsumerRecord, original: Callable[[ConsumerRecord], Awaitable[StreamMessage[Any]]]
) -> StreamMessage[Any]:
    # FastStream's parser fails on a header that is no UTF-8, and would answer whoever sets one named `reply_to`.
    return await original(replace(record, headers=()))


async def _undecoded(message: StreamMessage[Any]) -> bytes:
    body: bytes = message.body  # FastStream would choose the decoding by what the record says of itself.
    return body


def _security(arguments: dict[str, Any]) -> BaseSecurity | None:
    protocol = arguments["security_protocol"]
    if protocol == "PLAINTEXT":
        return None
    tls: dict[str, Any] = {"use_ssl": "SSL" in protocol.split("_"), "ssl_context": arguments.get("ssl_context")}
    if not protocol.startswith("SASL"):
        return BaseSecurity(**tls)
    kind = _SASL[arguments["sasl_mechanism"]]
    return kind(username=arguments["sasl_plain_username"], password=arguments["sasl_plain_password"], **tls)


async def _close(broker: KafkaBroker) -> None:
    # In a task of its own and for a bounded time: aiokafka may wait for a broker that is away for ever, and may let
    # out the CancelledError of a task of its own, which would look as if we had been cancelled.
    closing = asyncio.create_task(broker.stop())
    await asyncio.wait({closing}, timeout=_CLOSING_S)
    if not closing.done():
        closing.cancel()
        await asyncio.wait({closing}, timeout=1)
    elif not closing.cancelled() and (error := closing.exception()) is not None:
        log.debug("closing a Kafka client", reason=repr(error))
