"""The webhook: the alert as JSON, signed."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx2
from pydantic import SecretStr
from pydantic_core import to_json

from budget_bus.events.facts import BudgetAlert
from budget_bus.notifiers import signature
from budget_bus.notifiers.posting import post


class Webhook:
    """A receiver of our own kind: `webhook-id` is the `alert_id`, the same on every attempt."""

    name = "webhook"

    def __init__(
        self, http: httpx2.AsyncClient, url: SecretStr, secret: SecretStr, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._http, self._url, self._secret, self._clock = http, url, secret, clock

    async def send(self, alert: BudgetAlert) -> None:
        """
        Post the alert once.

        Raises:
            TryAgain, Refused: the receiver did not take it.
        """
        content = body(alert)
        signed = signature.headers(self._secret.get_secret_value(), str(alert.alert_id), int(self._clock()), content)
        await post(self._http, self._url.get_secret_value(), content, signed)


def body(alert: BudgetAlert) -> bytes:
    """The payload in the shape that Standard Webhooks advises: `type`, `timestamp`, `data`."""
    data = alert.model_dump(mode="json")
    return to_json({"type": "budget.alert", "timestamp": data["raised_at"], "data": data})
