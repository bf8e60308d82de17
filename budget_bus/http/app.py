"""All endpoints as one Starlette app."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount

from budget_bus.http import (
    alerts,
    check,
    config,
    dashboard,
    decisions,
    docs,
    export,
    health,
    holds,
    integrations,
    limit_raises,
    limit_reallocation,
    limit_windows,
    limits,
    optimize,
    price_comparison,
    prices,
    reconciliation,
    record,
    reports,
    simulate,
    status,
    usage,
)
from budget_bus.http.agents import Agents
from budget_bus.http.feeds import alerts as alert_feed
from budget_bus.http.feeds import budgets as budget_feed
from budget_bus.http.feeds.socket import FeedEndpoint, feed_routes
from budget_bus.http.middleware import middleware
from budget_bus.http.parts import Parts
from budget_bus.http.problems import handlers
from budget_bus.http.route import Endpoint, routes

ENDPOINTS: tuple[Endpoint, ...] = (
    *check.ENDPOINTS,
    *record.ENDPOINTS,
    *usage.ENDPOINTS,
    *reports.ENDPOINTS,
    *export.ENDPOINTS,
    *optimize.ENDPOINTS,
    *limits.ENDPOINTS,
    *limit_windows.ENDPOINTS,
    *limit_raises.ENDPOINTS,
    *limit_reallocation.ENDPOINTS,
    *holds.ENDPOINTS,
    *alerts.ENDPOINTS,
    *config.ENDPOINTS,
    *decisions.ENDPOINTS,
    *integrations.ENDPOINTS,
    *prices.ENDPOINTS,
    *price_comparison.ENDPOINTS,
    *reconciliation.ENDPOINTS,
    *simulate.ENDPOINTS,
    *status.ENDPOINTS,
    *health.ENDPOINTS,
)
FEEDS: tuple[FeedEndpoint, ...] = (budget_feed.FEED, alert_feed.FEED)


def build_app(parts: Parts) -> Starlette:
    """
    The gateway's app over opened parts. It opens and closes nothing itself; its `agents_of` must run for /mcp/ to
    answer.
    """
    app = Starlette(
        routes=[*routes(ENDPOINTS, parts), *feed_routes(FEEDS, parts), *docs.routes(ENDPOINTS), *dashboard.routes()],
        exception_handlers=handlers(),
        middleware=middleware(parts.settings),
    )
    app.state.agents = Agents(app, parts.keys)
    app.router.routes.append(Mount("/mcp", app=app.state.agents))
    return app


def agents_of(app: Starlette) -> Agents:
    """The app below /mcp/ of a gateway's app."""
    agents: Agents = app.state.agents
    return agents
