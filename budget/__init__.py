"""An alias of `budget_bus`, so that `from budget.client import BudgetClient` works as documented. No logic."""
