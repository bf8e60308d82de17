"""
The HTTP clients of the gateway; importing them loads no server.

steps.py   what both clients do, as generators of requests: built, retried and read in one place
sync.py    BudgetClient and its guard          aio.py  AsyncBudgetClient and its guard
spool.py   usage that could not be sent           streaming.py  what the chunks of an answer say
"""

from typing import TYPE_CHECKING, Any

from budget_bus.client.steps import OnUnavailable
from budget_bus.client.sync import BudgetClient, Guard

if TYPE_CHECKING:
    from budget_bus.client.aio import AsyncBudgetClient, AsyncGuard

__all__ = ["AsyncBudgetClient", "AsyncGuard", "BudgetClient", "Guard", "OnUnavailable"]


def __getattr__(name: str) -> Any:
    # asyncio alone takes a third of the time of importing the rest, and most callers block.
    if name in ("AsyncBudgetClient", "AsyncGuard"):
        from budget_bus.client import aio  # noqa: PLC0415 - see above

        return getattr(aio, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
