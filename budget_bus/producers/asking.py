"""Questions to the decider: sent with a correlation id, answered on a partition of our own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from aiokafka.structs import RecordMetadata

from budget_bus.errors import BudgetUnavailable, Conflict, Rejected
from budget_bus.events.checks import CheckRequested
from budget_bus.events.topics import CHECK_REQUESTED, CHECK_RESPONSE
from budget_bus.producers.replies import (
    CORRELATION_ID,
    ERROR,
    REPLY_PARTITION,
    REPLY_TOPIC,
    NoAnswer,
    Reply,
    ReplyListener,
)
from budget_bus.producers.sender import Sender


class Asker:
    """Asks over *sender*; opens the consumer of the answers at the first question."""

    def __init__(self, connection: Mapping[str, Any], sender: Sender, *, prefix: str, instance: str) -> None:
        self._connection = connection
        self._sender = sender
        self._prefix = prefix
        self._instance = instance
        self._listener: ReplyListener | None = None
        self._opening = asyncio.Lock()

    @property
    def listener(self) -> ReplyListener | None:
        """Who hears the answers; None before the first question."""
        return self._listener

    @property
    def listening(self) -> bool:
        """Whether answers are being heard."""
        return self._listener is not None and self._listener.positioned

    async def stop(self) -> None:
        """Fail whoever still waits for an answer."""
        if self._listener is not None:
            await self._listener.stop()

    async def ask(self, question: CheckRequested, *, timeout_s: float) -> bytes:
        """
        Send a validated question and return the decision's JSON, byte for byte.

        The question's deadline is set to *timeout_s* from now: read after it, it is not decided.

        Raises:
            Rejected, Conflict, BudgetUnavailable: as `BudgetBus.check`.
        """
        request_id = str(question.request_id)
        listener = await self._hear(request_id)
        correlation_id = uuid4().hex  # not the request_id: the same question may be asked twice at once
        now = datetime.now(UTC)
        # Updated fields count as set: a request_id that is a default would not be sent otherwise.
        update = {
            "request_id": question.request_id,
            "requested_at": now,
            "deadline": now + timedelta(seconds=timeout_s),
        }
        question = question.model_copy(update=update)
        answer = listener.expect(correlation_id)
        try:
            async with asyncio.timeout(timeout_s):
                sent = self._send_question(question, correlation_id, listener, timeout_s)
                sent.add_done_callback(lambda sending: _pass_error(sending, answer))
                return _read_answer(await answer)
        except TimeoutError:
            if not _acknowledged(sent):
                raise BudgetUnavailable(
                    f"the broker did not take the question within {timeout_s:g} s", request_id=request_id
                ) from None
            raise NoAnswer(f"no decision within {timeout_s:g} s", request_id=request_id) from None
        except BudgetUnavailable as error:
            error.request_id = request_id
            raise
        finally:
            listener.forget(correlation_id)

    async def listen(self) -> None:
        """
        Take the position among the answers, if it is not taken yet.

        Raises:
            BudgetUnavailable: the broker does not answer or has no topic for answers.
        """
        async with self._opening:
            if self._listener is None:
                topic = self._prefix + CHECK_RESPONSE
                partitions = await self._sender.partitions(topic)
                listener = ReplyListener(self._connection, topic=topic, partitions=partitions, instance=self._instance)
                await listener.start()
                self._listener = listener

    async def _hear(self, request_id: str) -> ReplyListener:
        try:
            await self.listen()
        except BudgetUnavailable as error:
            error.request_id = request_id
            raise
        assert self._listener is not None  # noqa: S101  # listen() either sets it or raises
        return self._listener

    def _send_question(
        self, question: CheckRequested, correlation_id: str, listener: ReplyListener, timeout_s: float
    ) -> asyncio.Future[RecordMetadata]:
        return self._sender.send_nowait(
            self._prefix + CHECK_REQUESTED,
            key=question.component.encode(),
            value=question.model_dump_json(exclude_unset=True).encode(),
            headers=[
                (CORRELATION_ID, correlation_id.encode()),
                (REPLY_TOPIC, listener.topic.encode()),
                (REPLY_PARTITION, str(listener.partition).encode()),
            ],
            timeout_s=timeout_s,
        )


def _pass_error(sending: asyncio.Future[RecordMetadata], answer: asyncio.Future[Reply]) -> None:
    # A question that could not be sent gets no answer: the asker need not wait for its time-out.
    if not sending.cancelled() and (error := sending.exception()) is not None and not answer.done():
        answer.set_exception(error)


def _acknowledged(sending: asyncio.Future[RecordMetadata]) -> bool:
    return sending.done() and not sending.cancelled() and sending.exception() is None


def _read_answer(reply: Reply) -> bytes:
    """The decision's bytes; an answer with the header `error` is a problem instead."""
    kind = reply.headers.get(ERROR)
    if kind is None:
        return reply.value
    try:
        detail = str(json.loads(reply.value)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = "the question was refused without a reason"
    raise Conflict(detail) if kind == b"conflict" else Rejected(detail)
