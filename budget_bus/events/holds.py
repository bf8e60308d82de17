"""hold.released and hold.extended: what the asker does with its hold besides settling it."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from budget_bus.events.fields import Instant, LargeCount, Money, Name, WireModel
from budget_bus.money import NANOS_PER_UNIT


class Unused(WireModel):
    """How much of a lease was given back since it was taken: money in its currency, tokens, calls."""

    cost: Money = Decimal(0)
    tokens: LargeCount = 0
    requests: LargeCount = 0

    def part(self) -> tuple[int, int, int]:
        """The same in nanos, tokens and calls."""
        return int(self.cost * NANOS_PER_UNIT), self.tokens, self.requests


class HoldReleased(WireModel):
    """
    The call was never made: give the hold back. With `unused` it is a lease of which only that much is given back:
    the sum of everything given back so far, so that the same message may come twice. With `actor` it is somebody's
    decision rather than a part of the call, and is audited as theirs.
    """

    request_id: UUID
    component: Name
    reason: Name | None = None
    unused: Unused | None = None
    actor: Name | None = None


class HoldExtended(WireModel):
    """The call takes longer: keep the hold until `expires_at`. `actor` as in hold.released."""

    request_id: UUID
    component: Name
    expires_at: Instant
    actor: Name | None = None
