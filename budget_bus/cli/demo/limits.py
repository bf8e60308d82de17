"""The demo's limits: about its own components only, so that no call of anybody else meets one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from budget_bus.cli.demo.traffic import COMPONENTS
from budget_bus.cli.gateway import ask, items

DAY, CODEX, APOLLO, SESSION, MONTH = (
    "demo day",
    "demo codex, hard",
    "demo apollo, soft",
    "demo session of ergon",
    "demo month, shadow",
)
NAMES = (DAY, CODEX, APOLLO, SESSION, MONTH)
# About what one call of any, and one of demo-codex, comes to (USD); the limits are to be met during the demo.
_A_CALL, _A_CODEX_CALL = Decimal("0.013"), Decimal("0.03")
_CODEX_SHARE, _APOLLO_SHARE = Decimal("0.3"), Decimal("0.1")


def bodies(calls: int) -> list[dict[str, Any]]:
    """What is sent to POST /api/limits so that *calls* calls meet a warning, a denial and a degrading."""
    every = {"component": list(COMPONENTS)}
    return [
        _body(DAY, every, _A_CALL * calls / 2, period="daily", policy="WARN"),
        _body(CODEX, {"component": "demo-codex"}, _A_CODEX_CALL * _CODEX_SHARE * calls / 2, period="daily"),
        _body(
            APOLLO,
            {"component": "demo-apollo"},
            max(2, int(calls * _APOLLO_SHARE / 2)),
            period="hourly",
            unit="requests",
            policy="SOFT_LIMIT",
        ),
        _body(SESSION, {"component": "demo-ergon"}, Decimal("0.25"), period="per_context", ttl_s=3600),
        _body(MONTH, every, _A_CALL * calls * 40, period="monthly", shadow=True),
    ]


def _body(name: str, scope: dict[str, Any], limit: Decimal | int, **fields: Any) -> dict[str, Any]:
    if isinstance(limit, Decimal):
        limit = max(limit, Decimal("0.01")).quantize(Decimal("0.01"))
        fields["currency"] = "USD"
    return {"name": name, "scope": scope, "limit": str(limit), "policy": "HARD_LIMIT", **fields}


def make(calls: int) -> list[dict[str, Any]]:
    """
    Make the demo's limits for *calls* calls, or renew those of an earlier demo: on top of what their current windows
    have spent already, so that every demo meets them.
    """
    made = []
    for body in bodies(calls):
        _, budget = ask("POST", "/api/limits", body=body)
        if body["period"] != "per_context" and Decimal(budget["spent"]):
            limit = Decimal(body["limit"]) + Decimal(budget["spent"])
            _, budget = ask("POST", "/api/limits", body={**body, "limit": str(limit)})
        made.append(budget)
    return made


def ours() -> list[dict[str, Any]]:
    """The demo's limits that are in force: by their name and because they are about nothing but its components."""
    return [budget for budget in items("/api/limits") if _is_ours(budget)]


def others() -> list[dict[str, Any]]:
    """All other limits."""
    return [budget for budget in items("/api/limits") if not _is_ours(budget)]


def remove() -> int:
    """Take the demo's limits away; how many there were."""
    found = ours()
    for budget in found:
        ask("DELETE", f"/api/limits/{budget['budget_id']}")
    return len(found)


def _is_ours(budget: dict[str, Any]) -> bool:
    named = budget["scope"].get("component")
    components = [named] if isinstance(named, str) else named
    return budget["name"] in NAMES and isinstance(components, list) and {*components} <= {*COMPONENTS}
