"""BudgetBus: what a component uses to record usage, ask before a call, and hear of alerts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from aiokafka.structs import RecordMetadata
from pydantic import SecretStr

from budget_bus.events.checks import CheckRequested, CheckResponse
from budget_bus.events.decode import decode
from budget_bus.events.facts import BudgetAlert
from budget_bus.events.holds import HoldExtended, HoldReleased
from budget_bus.events.ids import new_id
from budget_bus.events.topics import (
    BUDGET_ALERTS,
    HOLD_EXTENDED,
    HOLD_RELEASED,
    USAGE_RECORDED,
)
from budget_bus.events.usage import UsageRecorded
from budget_bus.kafka import connection
from budget_bus.producers.alerts import alert_feed
from budget_bus.producers.asking import Asker
from budget_bus.producers.fields import read_fields
from budget_bus.producers.follower import Follower
from budget_bus.producers.guard import Guard
from budget_bus.producers.lease import Lease
from budget_bus.producers.leases import Leases
from budget_bus.producers.lessee import CHECK_TIMEOUT_S, Answer, Lessee, slice_of
from budget_bus.producers.sender import Sender
from budget_bus.settings import Settings

RECORD_TIMEOUT_S = 10.0


class BudgetBus:
    """
    The budget service over Kafka. Use it as `async with BudgetBus("kafka:9092") as bus`; it may be shared by all
    tasks of one event loop. A component that only records opens no consumer.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        topic_prefix: str = "",
        security_protocol: str = "PLAINTEXT",
        sasl_mechanism: str = "PLAIN",
        sasl_username: str | None = None,
        sasl_password: str | None = None,
        ssl_cafile: Path | None = None,
        instance: str | None = None,
        lease: Lease | None = None,
    ) -> None:
        """
        *instance* names this asker in the broker's log; it need not be unique. With a *lease*, checks are answered from
        slices of the budgets that were set aside before, see `check`.
        """
        # model_construct: the arguments alone count here, not the environment of the component.
        settings = Settings.model_construct(
            kafka_bootstrap_servers=bootstrap_servers,
            kafka_security_protocol=security_protocol,  # checked by aiokafka
            kafka_sasl_mechanism=sasl_mechanism,  # checked by aiokafka
            kafka_sasl_username=sasl_username,
            kafka_sasl_password=SecretStr(sasl_password) if sasl_password is not None else None,
            kafka_ssl_cafile=ssl_cafile,
            instance=instance,
        )
        self._setup(settings, topic_prefix, lease)

    @classmethod
    def from_settings(cls, settings: Settings, *, lease: Lease | None = None) -> Self:
        """
        A bus that connects as *settings* say.

        Raises:
            ConfigError: no bootstrap servers are configured.
        """
        bus = cls.__new__(cls)
        bus._setup(settings, settings.topic_prefix, lease)
        return bus

    def _setup(self, settings: Settings, topic_prefix: str, lease: Lease | None) -> None:
        self._connection = connection(settings)
        self._prefix = topic_prefix
        self._instance = f"{settings.instance or ''}{uuid4()}"
        self._sender = Sender(self._connection)
        self._asker = Asker(self._connection, self._sender, prefix=topic_prefix, instance=self._instance)
        self._leases = Leases(self, lease) if lease else None

    async def start(self) -> None:
        """
        Connect; `async with` does it.

        Raises:
            BudgetUnavailable: no bootstrap server answers.
        """
        await self._sender.start()

    async def stop(self) -> None:
        """Give leases back and send what is under way, for some seconds; open checks fail with BudgetUnavailable."""
        if self._leases is not None:
            await self._leases.stop()
        await self._asker.stop()
        await self._sender.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def sender(self) -> Sender:
        """The producer behind this bus."""
        return self._sender

    @property
    def listening(self) -> bool:
        """Whether answers to checks are being heard."""
        return self._asker.listening

    def topic(self, name: str) -> str:
        """The full name of one of our topics on this broker."""
        return self._prefix + name

    async def record(self, **fields: Any) -> UUID:
        """
        Announce one model call, with the fields of `usage.recorded` (`UsageRecorded`), and return its `event_id`
        once Kafka has it on all in-sync replicas.

        Repeating it with the same `event_id` is safe: it is counted once.

        Raises:
            Rejected: names each wrong field; nothing was sent.
            BudgetUnavailable: not acknowledged in time; it may have arrived, so repeat it with the same `event_id`.
        """
        event_id, event = _identified(read_fields(UsageRecorded, fields))
        await self.send_usage([event])
        self._recorded(event)
        return event_id

    async def record_many(self, events: Iterable[Mapping[str, Any]]) -> list[UUID]:
        """
        Announce many calls at once; the ids are in the order of *events*.

        Raises:
            Rejected: names the index and field (`3.model`); nothing was sent.
            BudgetUnavailable: not all were acknowledged; those that were are counted, so give each its `event_id`
                and repeat all.
        """
        found = [_identified(read_fields(UsageRecorded, fields, index)) for index, fields in enumerate(events)]
        await self.send_usage([event for _, event in found])
        for _, event in found:
            self._recorded(event)
        return [event_id for event_id, _ in found]

    async def send_usage(
        self, events: Sequence[UsageRecorded], *, timeout_s: float = RECORD_TIMEOUT_S
    ) -> list[RecordMetadata]:
        """
        Send validated events as their makers set them (no default is filled in); where each lies, in their order.

        Raises:
            BudgetUnavailable: as `record_many`.
        """
        sent = [
            self._sender.send_nowait(
                self.topic(USAGE_RECORDED),
                key=event.component.encode(),
                value=event.model_dump_json(exclude_unset=True).encode(),
                timeout_s=timeout_s,
            )
            for event in events
        ]
        # All are awaited before the first error is raised, so that none is sent after the caller has begun anew.
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]

    async def check(self, *, timeout_s: float = CHECK_TIMEOUT_S, **fields: Any) -> CheckResponse:
        """
        Ask whether a call may be made, with the fields of `check.requested` (`CheckRequested`); an allowed one holds
        its estimate until it is settled, given back or expired.

        A repeated `request_id` gets the first decision again. On a bus with a lease, calls like those before (of the
        same scope fields, with `input_tokens` and `max_output_tokens`, or `estimated_tokens`) are answered from it
        without asking: the answer has the lease's `request_id`, `estimate_source` `lease` and no `budgets`. Such a call
        is to be recorded, or released, with that `request_id` on this bus.

        Raises:
            Rejected: names each wrong field; nothing was sent.
            Conflict: the `request_id` was used for a different question.
            BudgetUnavailable: the broker is away or no decision came in time. It carries the `request_id`, and a
                decision may still have been made: ask again with that id.
        """
        decision, ticket = await self.decide(fields, timeout_s=timeout_s)
        if ticket is not None:
            slice_of(ticket).loosen(ticket)
        return decision

    async def decide(
        self, fields: Mapping[str, Any], *, timeout_s: float = CHECK_TIMEOUT_S, request_id: UUID | None = None
    ) -> Answer:
        """
        As `check`, with the call's ticket if a lease has set it aside; *request_id* is that of the question if it must
        be asked and its fields have none.
        """
        said = {name: value for name, value in fields.items() if value is not None}
        question = read_fields(CheckRequested, {"request_id": request_id or new_id(), **said})
        if self._leases is not None:
            began = monotonic()
            answer = await self._leases.answer(question, said.keys(), timeout_s=timeout_s)
            if answer is not None:
                return answer
            timeout_s = max(0.0, timeout_s - (monotonic() - began))
        return Answer(decode(CheckResponse, await self.ask(question, timeout_s=timeout_s)), None)

    async def lessee(self, **fields: Any) -> Lessee:
        """
        Who admits calls of these fields (component, provider, model and the other scope fields) without awaiting:
        `ticket = lessee.admit(input_tokens, max_output_tokens)`, None if it must be asked with `check`.

        Raises:
            RuntimeError: this bus was made without a lease.
            Rejected: names each wrong field.
            BudgetUnavailable: as `listen`.
        """
        lessee = self.leases.lessee(fields)
        await self.listen()
        return lessee

    @property
    def leases(self) -> Leases:
        """The leases of this bus. Raises RuntimeError if it was made without."""
        if self._leases is None:
            raise RuntimeError("this bus has no leases: make it with BudgetBus(..., lease=Lease())")
        return self._leases

    async def ask(self, question: CheckRequested, *, timeout_s: float = CHECK_TIMEOUT_S) -> bytes:
        """Send a validated question and return the decision's JSON, byte for byte; see `Asker.ask`."""
        return await self._asker.ask(question, timeout_s=timeout_s)

    def guard(self, *, timeout_s: float = CHECK_TIMEOUT_S, **fields: Any) -> Guard:
        """
        `async with bus.guard(...) as call`: check, then `await call.settle(...)` or `await call.void()`.

        Left without either, by an exception too, the hold stays until it expires: an unknown outcome is never free.
        Entering raises BudgetExceeded if the check is denied, else as `check`.
        """
        return Guard(self, fields, timeout_s)

    async def release_hold(
        self, request_id: UUID | str, *, component: str, reason: str | None = None, actor: str | None = None
    ) -> None:
        """
        Give a hold back, because its call was never made. Repeating it, or doing so after settling, is harmless. With
        an *actor* it is audited, as somebody's decision about a call of others.
        """
        said = {"request_id": request_id, "component": component, "reason": reason, "actor": actor}
        event = read_fields(HoldReleased, said)
        if self._leases is None or not self._leases.void_named(event.request_id):
            await self.announce(HOLD_RELEASED, event)

    async def extend_hold(
        self, request_id: UUID | str, *, component: str, expires_at: datetime, actor: str | None = None
    ) -> None:
        """Keep an open hold until *expires_at* (aware), because its call takes longer; *actor* as in release_hold."""
        said = {"request_id": request_id, "component": component, "expires_at": expires_at, "actor": actor}
        event = read_fields(HoldExtended, said)
        if self._leases is None or not self._leases.keeps(event.request_id):
            await self.announce(HOLD_EXTENDED, event)

    async def listen(self) -> None:
        """
        Take the position among the answers now instead of at the first check.

        Raises:
            BudgetUnavailable: the broker does not answer or has no topic for answers.
        """
        await self._asker.listen()

    async def alerts(self, *, from_beginning: bool = False) -> AsyncGenerator[BudgetAlert]:
        """
        Alerts as they are raised, from now on, or with *from_beginning* from the oldest that is kept.

        One alert may come twice, with the same `alert_id`.

        Raises:
            BudgetUnavailable: the broker does not answer at the start; later the feed waits for it.
        """
        follower = await self.follower(BUDGET_ALERTS)
        async with aclosing(alert_feed(follower, from_beginning=from_beginning)) as feed:
            async for alert in feed:
                yield alert

    async def follower(self, name: str) -> Follower:
        """
        What follows our topic *name*, to be started.

        Raises:
            BudgetUnavailable: the broker does not answer or has no such topic.
        """
        topic = self.topic(name)
        return Follower(self._connection, topic, await self._sender.partitions(topic))

    async def announce(
        self, topic: str, event: HoldReleased | HoldExtended, *, timeout_s: float = RECORD_TIMEOUT_S
    ) -> None:
        """Send a validated event; raises BudgetUnavailable if it is not acknowledged in time."""
        value = event.model_dump_json(exclude_none=True).encode()
        await self._sender.send(self.topic(topic), key=event.component.encode(), value=value, timeout_s=timeout_s)

    def _recorded(self, event: UsageRecorded) -> None:
        if self._leases is not None:
            self._leases.recorded(event)


def _identified(event: UsageRecorded) -> tuple[UUID, UsageRecorded]:
    if event.event_id is not None:
        return event.event_id, event
    event_id = new_id()
    return event_id, event.model_copy(update={"event_id": event_id})
