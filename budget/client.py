"""`from budget.client import BudgetClient`: the same classes as in budget_bus.client."""

from typing import TYPE_CHECKING, Any

from budget_bus import client
from budget_bus.client import BudgetClient

if TYPE_CHECKING:
    from budget_bus.client import AsyncBudgetClient

__all__ = ["AsyncBudgetClient", "BudgetClient"]


def __getattr__(name: str) -> Any:
    return getattr(client, name)
