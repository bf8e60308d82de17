"""OpenRouter: OpenAI's forms, with what the call cost."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from budget_bus.errors import FieldError, Rejected
from budget_bus.providers.base import BaseProvider
from budget_bus.providers.shapes import CHAT, MESSAGES, RESPONSES


class OpenRouter(BaseProvider):
    """A response names its cost in credits, one of which is one USD."""

    name = "openrouter"
    aliases = ("open-router",)
    shapes = (MESSAGES, CHAT, RESPONSES)
    unique_ids = True

    def reported_cost(self, usage: Mapping[str, Any]) -> Decimal | None:
        """
        `usage.cost`; for a call with a key of one's own, that is only OpenRouter's fee, and the upstream's charge
        comes on top (https://openrouter.ai/docs/use-cases/usage-accounting).
        """
        cost = _amount(usage.get("cost"), "usage.cost")
        details = usage.get("cost_details")
        if cost is None or not usage.get("is_byok") or not isinstance(details, Mapping):
            return cost
        return cost + (_amount(details.get("upstream_inference_cost"), "usage.cost_details") or 0)


def _amount(value: Any, field: str) -> Decimal | None:
    if value is None:
        return None
    amount = Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise Rejected("impossible usage", [FieldError(field, f"must be a number from 0 on, not {value!r}")])
    return amount
