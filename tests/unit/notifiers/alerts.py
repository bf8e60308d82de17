"""An alert to be told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from budget_bus.events.facts import BudgetAlert

_EXAMPLE = Path(__file__).parents[3] / "schemas/examples/budget.alerts/good/approaching.json"


def alert(**changes: Any) -> BudgetAlert:
    """The published example with *changes*."""
    return BudgetAlert.model_validate_json(json.dumps(json.loads(_EXAMPLE.read_text()) | changes))
