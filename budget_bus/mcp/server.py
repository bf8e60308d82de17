"""The MCP server: each tool under its own name and under the platform's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Final, get_type_hints

import httpx2
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, ToolAnnotations

from budget_bus import __version__
from budget_bus.mcp import tools
from budget_bus.mcp.rest import Rest
from budget_bus.mcp.tools import Tools

Tool = Callable[..., Coroutine[Any, Any, CallToolResult]]

INSTRUCTIONS: Final = """\
Budgets for calls of language models. Before an expensive call ask check_budget, or route_with_budget_awareness to be
told which model to use; afterwards record_usage with the request_id, so that what was held is given back. Amounts are
decimal strings with their currency."""

READS: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_HOLDS: Final = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)

TOOLS: Final[dict[Tool, ToolAnnotations]] = {
    Tools.check_budget: _HOLDS,
    Tools.record_usage: _HOLDS,
    Tools.get_budget_status: READS,
    Tools.get_usage: READS,
    Tools.list_limits: READS,
    Tools.recommend_model: READS,
    Tools.route_with_budget_awareness: _HOLDS,
    Tools.explain_decision: READS,
    Tools.list_decisions: READS,
    Tools.list_holds: READS,
    Tools.list_alerts: READS,
    Tools.list_prices: READS,
    Tools.forecast: READS,
    Tools.optimize: READS,
    Tools.plan_budget: READS,
    Tools.allocate_budget: _HOLDS,
}
# The names that the platform's agents know.
ALIASES: Final[dict[str, Tool]] = {
    "AllocateBudget": Tools.allocate_budget,
    "CheckBudget": Tools.check_budget,
    "RecordUsage": Tools.record_usage,
    "GetBudgetStatus": Tools.get_budget_status,
    "GetModelRecommendations": Tools.recommend_model,
    "RouteWithBudgetAwareness": Tools.route_with_budget_awareness,
    "GetUsageAnalytics": Tools.get_usage,
}


def build_server(client: httpx2.AsyncClient) -> MCPServer:
    """A server whose tools ask the gateway behind *client*, in the name of whoever calls them."""
    server = MCPServer("budget", version=__version__, instructions=INSTRUCTIONS)
    for tool, hints in TOOLS.items():
        server.tool(description=inspect.getdoc(tool), annotations=hints)(_bound(tool, client))
    for name, tool in ALIASES.items():
        server.tool(name, description=inspect.getdoc(tool), annotations=TOOLS[tool])(_bound(tool, client))
    return server


def _bound(tool: Tool, client: httpx2.AsyncClient) -> Tool:
    """*tool* of a `Tools` that is made for each call, since each may have another caller."""

    @functools.wraps(tool)
    async def call(ctx: Context, **arguments: Any) -> CallToolResult:
        return await tool(Tools(Rest(client, _authorization(ctx))), **arguments)

    # The library reads what a tool takes from its signature: ours, with the context in place of self.
    _, *parameters = inspect.signature(tool).parameters.values()
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Context)
    hints = get_type_hints(tool, vars(tools), include_extras=True)
    typed = [one.replace(annotation=hints[one.name]) for one in parameters]
    call.__signature__ = inspect.Signature([context, *typed], return_annotation=CallToolResult)  # type: ignore[attr-defined]
    call.__annotations__ = {**hints, "ctx": Context}
    return call


def _authorization(ctx: Context) -> str | None:
    request = ctx.request_context.request
    return None if request is None else request.headers.get("authorization")
