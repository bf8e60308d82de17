"""The composition root: builds the parts of each role, runs them, and closes them in reverse."""

from __future__ import annotations

from budget_bus.settings import Settings

ROLES = ("gateway", "settler", "decider", "relay")


async def run(role: str, settings: Settings) -> None:
    """
    Run one role (or `all`, every role in this process) until SIGTERM or SIGINT.

    Raises:
        ConfigError: a setting that the role needs is missing.
        BudgetUnavailable: the database or the broker did not answer within the start-up patience.
    """
    raise NotImplementedError(role, settings)
