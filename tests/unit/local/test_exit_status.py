"""How the `budget` command ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from budget_bus import errors
from budget_bus.cli import exit_code


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ConfigError("x"), 2),
        (errors.Rejected("x"), 1),
        (errors.NotFound("x"), 1),
        (errors.Conflict("x"), 1),
        (errors.BudgetUnavailable("x"), 1),
        (errors.BudgetExceeded("x", {}), 1),
        (errors.Fenced("x"), 1),
        (RuntimeError("x"), 1),
    ],
)
def test_every_error_has_its_status(error: Exception, status: int) -> None:
    assert exit_code(error) == status


def budget(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "budget_bus.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environ},
    )


def test_a_wrong_setting_is_one_line_and_status_2() -> None:
    result = budget("up", BUDGET_PORT="http")
    assert result.returncode == 2
    assert result.stderr.startswith("error: invalid settings: BUDGET_PORT=http:")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["no-such-command"], ["serve", "nobody"], ["up", "--what"]])
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    result = budget(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, budget_bus.cli\n"
        "heavy = {'aiokafka', 'asyncpg', 'httpx2', 'starlette', 'pydantic_settings', 'faststream', 'uvicorn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
