"""How long a program waits for our client's import, and a person for `budget --help`, in a new process each time."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

_TURNS = 15


def floor() -> dict[str, float]:
    """An interpreter that does nothing."""
    empty = _median_ms("-c", "pass")
    return {"import_ms": empty, "help_ms": empty}


def ours() -> dict[str, float]:
    """The interpreter, and what is ours."""
    return {
        "import_ms": _median_ms("-c", "import budget.client"),
        "help_ms": _median_ms("-m", "budget_bus.cli", "--help"),
    }


def _median_ms(*arguments: str) -> float:
    times = []
    for _ in range(_TURNS):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)
