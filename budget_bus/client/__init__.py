"""
The HTTP clients of the gateway; importing them loads no server, and little else.

sync.py       BudgetClient and its guard          aio.py  AsyncBudgetClient and its guard
steps.py      what both do, as generators of requests and of local work; calls.py: a guard's call, from check to end
asking.py     a request until it is answered: repeats, and what a refusal is raised as
exchange.py   requests, responses and options
spool.py      usage that could not be sent, in a file       resending.py  from there to the service
streams.py    what is remembered of a stream while it passes      texts.py  where its text is, per form of chunks
"""

from budget_bus.client.aio import AsyncBudgetClient, AsyncGuard
from budget_bus.client.exchange import OnUnavailable
from budget_bus.client.sync import BudgetClient, Guard

__all__ = ["AsyncBudgetClient", "AsyncGuard", "BudgetClient", "Guard", "OnUnavailable"]
