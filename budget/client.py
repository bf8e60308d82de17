"""`from budget.client import BudgetClient`: the same classes as in budget_bus.client."""

from budget_bus.client import AsyncBudgetClient, BudgetClient

__all__ = ["AsyncBudgetClient", "BudgetClient"]
