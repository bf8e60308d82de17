"""A usage record -> what the ledger needs of it: id, time, stored names, tokens, cost."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from aiokafka import ConsumerRecord

from budget_bus.errors import FieldError, Rejected
from budget_bus.events.checks import CheckRequested
from budget_bus.events.decode import decode
from budget_bus.events.fields import EARLIEST, LATEST, MAX_FUTURE_S
from budget_bus.events.usage import UsageRecorded
from budget_bus.money import Nanos, PicosPerToken
from budget_bus.policy.pricing import Cost, Price, PriceStatus, Rate, Tokens, cost_of
from budget_bus.policy.scope import Call
from budget_bus.providers.names import canonical_provider, tier_of
from budget_bus.providers.prices import PriceBook
from budget_bus.providers.tokens import count_tokens

_DERIVED = UUID("6f0b7a52-3c2d-5f57-9a43-2d1f0a8e7c11")  # the name space of ids that we derive
_NO_RATE = Rate(PicosPerToken(0))
_REPORTED = Price(
    _NO_RATE, _NO_RATE, currency="USD", source="reported"
)  # what was charged is an amount: it has no rates
_EARLIEST_MS, _LATEST_MS = EARLIEST.timestamp() * 1000, LATEST.timestamp() * 1000


class Incoming(NamedTuple):
    """One usable usage event."""

    record: ConsumerRecord
    event: UsageRecorded
    event_id: UUID
    digest: bytes
    occurred_at: datetime
    call: Call
    tokens: Tokens
    token_source: str
    price: Price | None
    cost: Cost | None

    @property
    def price_status(self) -> PriceStatus:
        return self.price.status if self.price else PriceStatus.UNPRICED


def read_usage(record: ConsumerRecord, topic: str, prices: PriceBook, *, now: datetime) -> Incoming:
    """
    Read one record of usage.recorded.

    Raises:
        Rejected: it cannot be used; the detail is the dead letter's reason.
    """
    event = decode(UsageRecorded, record.value)
    occurred_at = event.occurred_at or _record_time(record)
    if occurred_at > now + timedelta(seconds=MAX_FUTURE_S):
        message = f"is more than {MAX_FUTURE_S} s in the future"
        raise Rejected("invalid input", [FieldError("occurred_at", message)])
    call = call_of(event)
    tokens, source = _tokens(event, call.provider)
    price = prices.price(call.provider, event.model, occurred_at, event.service_tier)
    return Incoming(
        record=record,
        event=event,
        event_id=event.event_id or derived_id(record, topic),
        digest=event.digest(),
        occurred_at=occurred_at,
        call=call,
        tokens=tokens,
        token_source=source,
        price=price,
        cost=cost_of(tokens, price) if price else None,
    )


def priced(event: Incoming, prices: PriceBook) -> Incoming:
    """*event* at what *prices* say now; what was read with older ones is priced again so."""
    price = prices.price(event.call.provider, event.call.model, event.occurred_at, event.event.service_tier)
    return event._replace(price=price, cost=cost_of(event.tokens, price) if price else None)


def as_reported(event: Incoming) -> Incoming:
    """
    *event* at the cost that its `reported_cost` names in USD; one that names none keeps what was computed.

    Input and output share it as they share the computed cost, rounded down for the input; without one it is all input.
    """
    reported = event.event.reported_cost
    if reported is None or reported.currency != _REPORTED.currency:
        return event
    total = int(reported.amount * 10**9)
    computed = event.cost
    part = total * computed.input // computed.total if computed and computed.total else total
    return event._replace(price=_REPORTED, cost=Cost(Nanos(total), Nanos(part), Nanos(total - part)))


def call_of(event: UsageRecorded | CheckRequested) -> Call:
    """What of a message decides which budgets it belongs to, under the stored names."""
    provider = canonical_provider(event.provider)
    return Call(
        component=event.component,
        provider=provider,
        model=event.model,
        tier=tier_of(provider, event.model),
        task_type=event.task_type,
        context_id=event.context_id,
        user=event.user,
        tags=tuple(event.tags.items()),
    )


def _record_time(record: ConsumerRecord) -> datetime:
    if not _EARLIEST_MS <= record.timestamp < _LATEST_MS:
        message = f"is required: the record's own time ({record.timestamp} ms since 1970) cannot stand in for it"
        raise Rejected("invalid input", [FieldError("occurred_at", message)])
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)


def derived_id(record: ConsumerRecord, topic: str) -> UUID:
    """The id of an event that has none of its own; *topic* is without the installation's prefix."""
    # The record's time and bytes are part of it: a topic made anew uses the same offsets for other records.
    said = f"{topic}/{record.partition}/{record.offset}/{record.timestamp}/".encode() + (record.value or b"")
    digest = hashlib.blake2b(said, digest_size=16, key=_DERIVED.bytes).digest()
    return UUID(bytes=digest, version=5)


def _tokens(event: UsageRecorded, provider: str) -> tuple[Tokens, str]:
    source = "estimated" if event.estimated else "provider"
    counts = {}
    for side in ("input", "output"):
        count = getattr(event, f"{side}_tokens")
        if count is None:
            counted = count_tokens(provider, event.model, getattr(event, f"{side}_text"))
            count, source = counted.tokens, "estimated" if "estimated" in (source, counted.source) else "exact"
            event.check_subsets(side, count)
        counts[side] = count
    tokens = Tokens(
        input=counts["input"],
        output=counts["output"],
        cache_read=event.cache_read_input_tokens,
        cache_creation=event.cache_creation_input_tokens,
        reasoning_output=event.reasoning_output_tokens,
        input_audio=event.input_audio_tokens,
        output_audio=event.output_audio_tokens,
        cache_creation_1h=event.cache_creation_1h_input_tokens,
        input_image=event.input_image_tokens,
        output_image=event.output_image_tokens,
    )
    return tokens, source
