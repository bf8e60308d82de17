"""`budget status`: what the service is connected to, how far behind it is, and the balances of the current windows."""

from __future__ import annotations

import sys
import time
from decimal import Decimal
from typing import Annotated, Any

import typer

from budget_bus.cli.gateway import ask
from budget_bus.cli.render import Format, FormatOption, show, show_json

BUDGET_COLUMNS = {
    "Name": "name",
    "Period": "period",
    "Provider": "provider",
    "Tier": "tier",
    "Component": "component",
    "Policy": "policy",
    "Unit": "measure",
    "Spent": "spent",
    "Held": "held",
    "Unconfirmed": "unconfirmed",
    "Limit": "limit",
    "Available": "available",
    "Usage %": "usage_percent",
    "Window end": "window_end",
}


def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="How often, with --watch.", min=0.2)] = 2.0,
    form: FormatOption = Format.TABLE,
) -> None:
    """
    Show the service's health and the balances of the current windows.

    Example: budget status --watch --every 5
    """
    _show(form)
    while watch:
        time.sleep(every)
        _clear()
        _show(form)


def _clear() -> None:
    # In a pipe or file, one after the other is what whoever reads it wants.
    sys.stdout.flush()
    if sys.stdout.isatty():
        print("\x1b[2J\x1b[H", end="")


def _show(form: Format) -> None:
    _, answer = ask("GET", "/api/status")
    if form is Format.JSON:
        show_json(answer)
        return
    if form is Format.TABLE:
        for line in _lines(answer):
            print(line)
        print()
    rows = [budget_row(budget) for budget in answer.get("budgets") or []]
    show(rows, BUDGET_COLUMNS, form, empty="no budgets yet; make one: budget set-limit daily 10.0")


def budget_row(budget: dict[str, Any]) -> dict[str, Any]:
    """A budget's line with the fields of its scope as columns, its unit as people say it, and how full it is."""
    scope = budget.get("scope") or {}
    return {
        **budget,
        **{name: scope.get(name) for name in ("provider", "tier", "component", "model")},
        "measure": budget.get("currency") if budget.get("unit") == "cost" else budget.get("unit"),
        "usage_percent": _percent(budget),
    }


def _percent(budget: dict[str, Any]) -> str | None:
    try:
        limit = Decimal(budget["limit"])
        taken = sum((Decimal(budget.get(name) or 0) for name in ("spent", "held", "unconfirmed")), Decimal(0))
    except (KeyError, TypeError, ArithmeticError):
        return None
    return f"{taken / limit * 100:.1f}" if limit else None


def _lines(answer: dict[str, Any]) -> list[str]:
    database, broker = answer.get("database") or {}, answer.get("broker") or {}
    holds = answer.get("holds")
    held = f"{holds['open']} open, {holds['unconfirmed']} unconfirmed" if holds else "unknown"
    stale = " - STALE: decisions are made on old numbers" if answer.get("stale") else ""
    lines = [
        f"budget_bus {answer.get('version', '?')}, up {_duration(answer.get('uptime_s') or 0)}{stale}",
        f"database: {_health(database)} (PostgreSQL {database.get('version') or 'unknown'})",
        f"broker:   {_health(broker)} {broker.get('bootstrap_servers') or ''} ({broker.get('kind') or 'unknown'})",
        f"holds:    {held}",
    ]
    for topic in answer.get("topics") or []:
        lag_s = topic.get("lag_s")
        lag = topic.get("lag_messages")
        behind = "lag unknown" if lag is None else f"{lag} messages behind"
        age = "" if lag_s is None else f", {lag_s:g} s"
        lines.append(f"topic:    {topic.get('topic')}: {behind}{age}")
    return lines


def _health(part: dict[str, Any]) -> str:
    return "ok" if part.get("ok") else "AWAY"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{days} d" if days else "", f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""]
    return " ".join(part for part in parts if part) or f"{seconds} s"
