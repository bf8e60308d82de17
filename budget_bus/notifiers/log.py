"""The log: every alert is at least there."""

from __future__ import annotations

import structlog

from budget_bus.events.facts import BudgetAlert
from budget_bus.notifiers.wording import details, title

log = structlog.get_logger()


class Log:
    """The log of this process, at the alert's severity."""

    name = "log"

    async def send(self, alert: BudgetAlert) -> None:
        """Write one line; it cannot fail."""
        spent, window, scope, _ = details(alert)
        write = {"info": log.info, "warning": log.warning, "error": log.error}[alert.severity]
        write(title(alert), alert_id=str(alert.alert_id), amounts=spent, window=window, scope=scope)
