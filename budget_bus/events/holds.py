"""hold.released and hold.extended: what the asker does with its hold besides settling it."""

from __future__ import annotations

from uuid import UUID

from budget_bus.events.fields import Instant, Name, WireModel


class HoldReleased(WireModel):
    """The call was never made: give the hold back."""

    request_id: UUID
    component: Name
    reason: Name | None = None


class HoldExtended(WireModel):
    """The call takes longer: keep the hold until `expires_at`."""

    request_id: UUID
    component: Name
    expires_at: Instant
