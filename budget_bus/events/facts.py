"""What the outbox publishes: budget.alerts, budget.updates, budget.changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

Unit = Literal["cost", "tokens", "requests"]


class BudgetAlert(BaseModel):
    """
    A threshold was crossed, or something happened that has none (`threshold_percent` 0); `alert_id` is the same on
    every delivery.
    """

    alert_id: UUID
    type: str
    severity: Literal["info", "warning", "error"]
    budget_id: UUID
    name: str
    scope: dict[str, Any]
    period: str
    window_start: datetime
    window_end: datetime | None
    threshold_percent: int
    basis: Literal["spent", "committed", "forecast"]
    limit: str
    spent: str
    held: str
    unit: Unit
    currency: str | None
    message: str
    raised_at: datetime
    limit_version: int
    unconfirmed: str = "0"
    context_id: str | None = None


class BudgetUpdated(BaseModel):
    """A budget's balance in one window, as of a batch's commit."""

    budget_id: UUID
    window_start: datetime
    window_end: datetime | None
    limit: str
    spent: str
    held: str
    unconfirmed: str
    available: str
    unit: Unit
    currency: str | None
    as_of: datetime
    context_id: str | None = None


class BudgetChanged(BaseModel):
    """A limit, price, setting, allocation or pause was changed: the audit feed."""

    change_id: UUID
    kind: Literal["limit", "price", "config", "allocation", "pause"]
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    actor: str
    at: datetime
