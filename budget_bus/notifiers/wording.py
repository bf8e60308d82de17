"""An alert in words. Names come from whoever made the budget, so nothing in them may act on its reader's screen."""

from __future__ import annotations

import unicodedata

from budget_bus.events.facts import BudgetAlert

_MAX_NAME = 200


def clean(text: str, limit: int = _MAX_NAME) -> str:
    """*text* on one line, without control, format and separator characters, cut to *limit*."""
    # Cc and Z? would break headers and lines, Cf turns the direction of what follows or hides what is there.
    plain = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") else c for c in text)
    plain = " ".join(plain.split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def title(alert: BudgetAlert) -> str:
    """What happened to which budget, on one line."""
    percent = f", {alert.threshold_percent} %" if alert.threshold_percent else ""
    return f"Budget {clean(alert.name)}: {clean(alert.type.replace('_', ' '))}{percent}"


def details(alert: BudgetAlert) -> list[str]:
    """The amounts, the window and the scope, a line each."""
    unit = clean(alert.currency or alert.unit)
    held = f", {clean(alert.held)} {unit} held" if alert.held != "0" else ""
    end = f"until {_instant(alert.window_end)}" if alert.window_end else "without an end"
    scope = ", ".join(f"{clean(name)}={clean(str(value))}" for name, value in alert.scope.items() if value)
    return [
        f"spent {clean(alert.spent)} of {clean(alert.limit)} {unit}{held}",
        f"window: {clean(alert.period)}, {end}",
        f"scope: {clean(scope) or 'everything'}",
        f"alert {alert.alert_id}, {alert.severity}, raised {_instant(alert.raised_at)}",
    ]


def _instant(at: object) -> str:
    return str(at).replace("+00:00", " UTC")
