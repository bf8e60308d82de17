"""`budget --help` is quick, and every command says what it does with an example."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("aiokafka", "asyncpg", "httpx2", "pydantic", "rich", "starlette", "genai_prices")
COMMANDS = (
    ["status"],
    ["set-limit"],
    ["get-usage"],
    ["import"],
    ["limits", "list"],
    ["limits", "set"],
    ["limits", "remove"],
    ["limits", "raise"],
    ["limits", "end-raises"],
    ["limits", "windows"],
    ["config", "list"],
    ["config", "get"],
    ["config", "set"],
    ["config", "unset"],
    ["keys", "add"],
    ["keys", "list"],
    ["keys", "revoke"],
    ["decisions", "list"],
    ["decisions", "show"],
    ["mcp"],
    ["alerts", "list"],
    ["alerts", "ack"],
    ["alerts", "watch"],
    ["holds", "list"],
    ["holds", "release"],
    ["debug", "integrations"],
    ["topics", "apply"],
    ["topics", "accept-loss"],
    ["db", "migrate"],
    ["db", "check"],
    ["dlq", "list"],
    ["dlq", "show"],
    ["dlq", "replay"],
)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_help_loads_nothing_heavy() -> None:
    found = _run("-c", f"import sys, budget_bus.cli; print([name for name in {HEAVY} if name in sys.modules])")
    assert found.stdout.strip() == "[]", found.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_an_example(command: list[str]) -> None:
    told = _run("-m", "budget_bus.cli", *command, "--help")
    assert told.returncode == 0
    assert "Example: " in told.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    told = _run("-m", "budget_bus.cli", "--show-completion", shell)
    assert told.returncode == 0
    assert "complete_" in told.stdout


def test_what_begins_so_is_offered() -> None:
    code = "import sys; from budget_bus.cli import app; app(prog_name='budget')"
    words = {"_BUDGET_COMPLETE": "complete_bash", "COMP_WORDS": "budget li", "COMP_CWORD": "1"}
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **words},
    )
    assert told.stdout.split() == ["limits"]


def test_a_command_that_is_not_there_is_bad_usage() -> None:
    told = _run("-m", "budget_bus.cli", "limts")
    assert told.returncode == 2
    assert "limts" in told.stderr
