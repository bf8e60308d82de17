"""
The HTTP clients of the gateway; importing them loads no server.

steps.py   what both clients do, as generators of requests: built, retried and read in one place
sync.py    BudgetClient and its guard          aio.py  AsyncBudgetClient and its guard
"""

from budget_bus.client.aio import AsyncBudgetClient, AsyncGuard
from budget_bus.client.steps import OnUnavailable
from budget_bus.client.sync import BudgetClient, Guard

__all__ = ["AsyncBudgetClient", "AsyncGuard", "BudgetClient", "Guard", "OnUnavailable"]
